import { readBundleDocument, SpiffeError, type TrustBundle, type TrustDomain } from '../index.js'

const USE = 'jwt-svid'

const invalid = (message: string, options?: ErrorOptions) =>
  new SpiffeError('CS_BUNDLE_INVALID', message, options)

/**
 * Reads a bundle value of FetchJWTBundles. It is a JWK Set like a bundle document, only that the
 * `use` of its keys is told by where they are found: absent is right, a different one is skipped.
 * Throws `CS_BUNDLE_INVALID`.
 */
export function readJwtKeySet(bytes: Uint8Array, trustDomain: TrustDomain): TrustBundle {
  const keys = keysIn(bytes).filter(isForJwtSvids)
  const document = { keys: keys.map((key) => ({ ...key, use: USE })) }
  return readBundleDocument(Buffer.from(JSON.stringify(document)), trustDomain)
}

function keysIn(bytes: Uint8Array): readonly object[] {
  const document = parseJson(bytes)
  if (!isObject(document) || !('keys' in document) || !Array.isArray(document.keys)) {
    throw invalid('document has no array of keys')
  }
  return document.keys.filter(isObject)
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw invalid('document is not JSON', { cause: error })
  }
}

function isForJwtSvids(key: object): boolean {
  return !('use' in key) || key.use === USE
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}
