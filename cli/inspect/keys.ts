import { createHash, type KeyObject } from 'node:crypto'
import type { Certificate } from '../../spiffe/index.js'
import { fields } from '../output.js'
import { type Finding, finding, type Inspection, warning } from './inspection.js'
import type { Recognised } from './recognise.js'

export interface KeyOptions {
  /** The certificates that were given with it. */
  readonly certificates: readonly Certificate[]
  /** Permission bits of the file that holds the key, if it is one. */
  readonly mode: number | undefined
}

const curves: Readonly<Record<string, string>> = {
  prime256v1: 'P-256',
  secp384r1: 'P-384',
  secp521r1: 'P-521',
}

/** Says what kind of key it is and whether it belongs to a certificate beside it. The key itself is never shown. */
export function inspectKey(
  { encoding, form, publicKey }: Extract<Recognised, { kind: 'key' }>,
  { certificates, mode }: KeyOptions,
): Inspection {
  const belongsTo = certificates.find((certificate) => publicKey?.equals(certificate.publicKey))
  const isPrivate = form !== 'public'
  const matches = certificates.length === 0 || !publicKey ? undefined : belongsTo !== undefined
  const kind = publicKey ? keyName(publicKey) : 'not known while it is encrypted'
  const fingerprint = publicKey ? sha256Of(publicKey) : undefined
  return {
    kind: 'key',
    findings: [
      ...(matches === false
        ? [finding('CS_X509_SVID_INVALID', 'key belongs to none of the certificates')]
        : []),
      ...(isPrivate ? modeFindings(mode) : []),
    ],
    json: {
      encoding,
      form,
      private: isPrivate,
      key: publicKey ? kind : null,
      public_key_sha256: fingerprint ?? null,
      matches: matches ?? null,
    },
    text: [
      `${isPrivate ? 'Private' : 'Public'} key (${encoding})`,
      '',
      fields([
        ['form', form],
        ['key', kind],
        ...(fingerprint ? [['public key', `SHA-256 ${fingerprint}`] as const] : []),
        ['belongs to', belongsToText(belongsTo, matches)],
      ]),
    ].join('\n'),
  }
}

/** `EC P-256`, `RSA 2048`, `Ed25519`. */
export function keyName(key: KeyObject): string {
  const { asymmetricKeyType: type = 'unknown', asymmetricKeyDetails: details } = key
  if (type === 'ec') {
    const curve = details?.namedCurve ?? ''
    return `EC ${curves[curve] ?? curve}`
  }
  if (type === 'rsa') return `RSA ${details?.modulusLength ?? ''}`.trim()
  return type === 'ed25519' ? 'Ed25519' : type
}

function belongsToText(certificate: Certificate | undefined, matches: boolean | undefined): string {
  if (certificate) return certificate.uriNames[0] ?? `certificate ${certificate.serialNumber}`
  return matches === false
    ? 'none of the certificates'
    : 'not told: no certificate is given with it'
}

function modeFindings(mode: number | undefined): readonly Finding[] {
  if (mode === undefined || (mode & 0o077) === 0) return []
  const shown = (mode & 0o777).toString(8).padStart(4, '0')
  return [warning('CS_CHECK_FAILED', `others may open the file of the key (mode ${shown})`)]
}

function sha256Of(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex')
}
