import { decodeBase64url } from './base64.js'
import { SpiffeError } from './errors.js'
import { isJsonObject, type JsonObject, readJson } from './strict-json.js'

/** A token taken apart. Nothing in it is proven. */
export interface DecodedJwt {
  readonly header: Readonly<Record<string, unknown>>
  readonly claims: Readonly<Record<string, unknown>>
}

/** The three parts of a JWS in compact form, still encoded. */
export interface CompactJws {
  readonly header: string
  readonly payload: string
  readonly signature: string
}

/** Longer than any header line or metadata value that could carry it. */
const MAX_TOKEN_LENGTH = 64 * 1024

const invalid = (message: string) => new SpiffeError('CS_JWT_SVID_INVALID', message)

/** Takes a token apart, strictly and for display: nothing is verified. Throws `CS_JWT_SVID_INVALID`. */
export function decodeJwt(token: string): DecodedJwt {
  const { header, payload, signature } = splitCompactJws(token)
  decodePart(signature, 'signature')
  return { header: readPart(header, 'header'), claims: readPart(payload, 'payload') }
}

/** Cuts a token in three, and no other number. Throws `CS_JWT_SVID_INVALID`. */
export function splitCompactJws(token: string): CompactJws {
  if (token.length > MAX_TOKEN_LENGTH)
    throw invalid(`token is longer than ${MAX_TOKEN_LENGTH} bytes`)
  const parts = token.split('.')
  const [header, payload, signature] = parts
  if (
    header === undefined ||
    payload === undefined ||
    signature === undefined ||
    parts.length > 3
  ) {
    throw invalid(`token has ${parts.length} parts; the compact form of a JWS has three`)
  }
  return { header, payload, signature }
}

/** Reads a part that is a JSON object in base64url. Throws `CS_JWT_SVID_INVALID`. */
export function readPart(part: string, name: string): JsonObject {
  const bytes = decodePart(part, name)
  const value = readJson(bytes, {
    code: 'CS_JWT_SVID_INVALID',
    maxBytes: MAX_TOKEN_LENGTH,
    integers: 'number',
  })
  if (!isJsonObject(value)) throw invalid(`${name} of the token is not a JSON object`)
  return value
}

export function decodePart(part: string, name: string): Uint8Array {
  const bytes = decodeBase64url(part)
  if (bytes === undefined) throw invalid(`${name} of the token is not base64url`)
  return bytes
}
