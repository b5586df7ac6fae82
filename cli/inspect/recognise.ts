import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import {
  type Certificate,
  certificatesFromPem,
  parseCertificate,
  parseTrustDomain,
  readBundleDocument,
  readJwtKeySet,
  splitCertificates,
  type TrustBundle,
} from '../../spiffe/index.js'
import { CliError } from '../errors.js'

export type Encoding = 'PEM' | 'DER'

/** What a file or stream turned out to hold. */
export type Recognised =
  | {
      readonly kind: 'x509'
      readonly encoding: Encoding
      readonly certificates: readonly Certificate[]
    }
  | { readonly kind: 'jwt'; readonly token: string }
  | {
      readonly kind: 'bundle'
      readonly bundle: TrustBundle
      /** What a reader passes over although it looks like a mistake. */
      readonly notes: readonly string[]
    }
  | {
      readonly kind: 'key'
      readonly encoding: Encoding
      readonly form: KeyForm
      /** Undefined for a key that is encrypted. */
      readonly publicKey: KeyObject | undefined
    }

export type KeyForm = 'PKCS#8' | 'encrypted PKCS#8' | 'SEC1' | 'PKCS#1' | 'public'

const SEQUENCE = 0x30
const PEM_LABEL = /^-----BEGIN ([A-Z0-9 ]+)-----\s*$/gm
const COMPACT_JWS = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/

const pemKeys: Readonly<Record<string, KeyForm>> = {
  'PRIVATE KEY': 'PKCS#8',
  'ENCRYPTED PRIVATE KEY': 'encrypted PKCS#8',
  'EC PRIVATE KEY': 'SEC1',
  'RSA PRIVATE KEY': 'PKCS#1',
  'PUBLIC KEY': 'public',
}

/** Says what the bytes are; a PEM file may hold a chain and its key. Throws `CS_USAGE` for anything else. */
export function recognise(bytes: Uint8Array): readonly Recognised[] {
  if (bytes[0] === SEQUENCE) return [recogniseDer(bytes)]
  const text = Buffer.from(bytes).toString('utf8').trim()
  if (text.includes('-----BEGIN ')) return recognisePem(text)
  if (COMPACT_JWS.test(text)) return [{ kind: 'jwt', token: text }]
  if (text.startsWith('{')) return [recogniseBundle(bytes)]
  throw unknownInput()
}

function recogniseDer(bytes: Uint8Array): Recognised {
  const key = recogniseDerKey(Buffer.from(bytes))
  if (key) return { kind: 'key', encoding: 'DER', ...key }
  const certificates = splitCertificates(bytes).map(parseCertificate)
  return { kind: 'x509', encoding: 'DER', certificates }
}

function recogniseDerKey(der: Buffer): { form: KeyForm; publicKey: KeyObject } | undefined {
  const attempts = [
    ['PKCS#8', () => createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })],
    ['SEC1', () => createPrivateKey({ key: der, format: 'der', type: 'sec1' })],
    ['PKCS#1', () => createPrivateKey({ key: der, format: 'der', type: 'pkcs1' })],
    ['public', () => createPublicKey({ key: der, format: 'der', type: 'spki' })],
  ] as const
  for (const [form, read] of attempts) {
    const publicKey = orUndefined(() => publicHalf(read()))
    if (publicKey) return { form, publicKey }
  }
  return undefined
}

function recognisePem(text: string): readonly Recognised[] {
  const blocks = pemBlocks(text)
  const found: Recognised[] = blocks.flatMap((block) => {
    const form = pemKeys[block.label]
    return form ? [{ kind: 'key', encoding: 'PEM', form, publicKey: pemKey(block) }] : []
  })
  if (blocks.some(({ label }) => label === 'CERTIFICATE')) {
    const certificates = certificatesFromPem(text).map(parseCertificate)
    found.unshift({ kind: 'x509', encoding: 'PEM', certificates })
  }
  if (found.length === 0) throw unknownInput()
  return found
}

interface PemBlock {
  readonly label: string
  /** From its first line up to where the next block begins. */
  readonly text: string
}

function pemBlocks(text: string): readonly PemBlock[] {
  const begun = [...text.matchAll(PEM_LABEL)]
  return begun.map(({ 1: label = '', index }, at) => ({
    label,
    text: text.slice(index, begun[at + 1]?.index),
  }))
}

function pemKey({ label, text }: PemBlock): KeyObject | undefined {
  if (label === 'ENCRYPTED PRIVATE KEY') return undefined
  const key = orUndefined(() =>
    publicHalf(label === 'PUBLIC KEY' ? createPublicKey(text) : createPrivateKey(text)),
  )
  if (!key) throw new CliError('CS_USAGE', `the block ${label} does not hold a key`)
  return key
}

function recogniseBundle(bytes: Uint8Array): Recognised {
  const notes: string[] = []
  const onWarning = (note: string) => void notes.push(note)
  // The document does not name its trust domain (Trust Domain and Bundle §4); its authorities usually do.
  const unnamed = parseTrustDomain('unnamed')
  const bundle = readBundleDocument(bytes, unnamed, { onWarning })
  if (bundle.x509Authorities.length > 0 || bundle.jwtAuthorities.size > 0) {
    return { kind: 'bundle', bundle, notes }
  }
  const jwtAuthorities = readJwtKeySet(bytes, { onWarning })
  return { kind: 'bundle', bundle: { ...bundle, jwtAuthorities }, notes }
}

/** Read anew from its bytes: Node ends the process when it is asked for details of some damaged private keys. */
function publicHalf(key: KeyObject): KeyObject {
  const half = key.type === 'private' ? createPublicKey(key) : key
  return createPublicKey({
    key: half.export({ type: 'spki', format: 'der' }),
    type: 'spki',
    format: 'der',
  })
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

const unknownInput = () =>
  new CliError(
    'CS_USAGE',
    'input is neither a certificate nor a token, a bundle or a key, in PEM, DER, compact JWS or JSON',
  )
