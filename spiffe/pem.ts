import { SpiffeError } from './errors.js'

/** One run of characters and nothing optional beside it: text from a stranger must not make the search go back. */
const CERTIFICATE_BLOCK = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g
const BEGIN = /-----BEGIN CERTIFICATE-----/g
const LINE_LENGTH = 64

const malformed = (message: string) => new SpiffeError('CS_CERTIFICATE_MALFORMED', message)

/**
 * The DER of every certificate in a PEM file, in its order. Other blocks and the text between them are
 * skipped. Throws `CS_CERTIFICATE_MALFORMED` if there is no certificate or one is damaged.
 */
export function certificatesFromPem(text: string): Uint8Array[] {
  const bodies = [...text.matchAll(CERTIFICATE_BLOCK)].map(([, body = '']) => body)
  const begun = [...text.matchAll(BEGIN)].length
  if (begun === 0) throw malformed('text holds no PEM certificate')
  if (bodies.length !== begun) throw malformed('a PEM certificate is damaged')
  return bodies.map(decodeBody)
}

/** One PEM block with a line end after it. */
export function toPem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(new RegExp(`.{1,${LINE_LENGTH}}`, 'g')) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

function decodeBody(body: string): Uint8Array {
  const base64 = body.replaceAll(/\s/g, '')
  const der = Buffer.from(base64, 'base64')
  if (der.length === 0 || der.toString('base64') !== base64)
    throw malformed('a PEM certificate is damaged')
  return new Uint8Array(der)
}
