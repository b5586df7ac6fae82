import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto'
import { promisify } from 'node:util'
import { PlatformError } from './errors.js'
import { atomicWrite, readIfPresent, readRequired } from './files.js'

/** Where the key comes from that seals data on disk. */
export type SealKeySource =
  | { readonly kind: 'key-file'; readonly path: string }
  | { readonly kind: 'key'; readonly bytes: Uint8Array }
  | { readonly kind: 'passphrase'; readonly passphrase: string; readonly saltPath: string }

/** Encrypts what must not lie on disk in clear. `context` binds data to its purpose: it opens under no other. */
export interface Sealer {
  seal(plain: Uint8Array, context: string): Uint8Array
  /** Throws `CS_SEAL_BROKEN`. */
  open(sealed: Uint8Array, context: string): Uint8Array
}

/** One sealed file, replaced whole. */
export interface SealedFile {
  readonly path: string
  /** Undefined when there is none yet. Throws `CS_SEAL_BROKEN`, `CS_FILE_UNREADABLE`. */
  read(): Promise<Uint8Array | undefined>
  /** Throws `CS_FILE_UNWRITABLE`. */
  write(plain: Uint8Array): Promise<void>
}

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
const SALT_BYTES = 16
const MAX_KEY_FILE_BYTES = 4096
const MAX_SEALED_BYTES = 256 * 2 ** 20
/** Format mark, so that a later format can be told apart and a foreign file is refused by name. */
const MAGIC = Buffer.from('CSS1')
/** About a quarter of a second and 128 MiB: a guess at a passphrase costs as much. */
const SCRYPT = { N: 2 ** 17, r: 8, p: 1, maxmem: 256 * 2 ** 20 }

const deriveKey = promisify<string, Buffer, number, typeof SCRYPT, Buffer>(scrypt)

/** AES-256-GCM under a key of 32 bytes. Throws `CS_SEAL_KEY_INVALID`. */
export async function openSealer(source: SealKeySource): Promise<Sealer> {
  const key = await readKey(source)
  return {
    seal: (plain, context) => seal(key, plain, context),
    open: (sealed, context) => open(key, sealed, context),
  }
}

/** Makes a new key file for its owner alone, or keeps the one that is there. */
export async function ensureKeyFile(path: string): Promise<void> {
  if (await readIfPresent(path, MAX_KEY_FILE_BYTES)) return
  await atomicWrite(path, `${randomBytes(KEY_BYTES).toString('base64')}\n`)
}

export function sealedFile(options: { path: string; sealer: Sealer; context: string }): SealedFile {
  const { path, sealer, context } = options
  return {
    path,
    async read() {
      const sealed = await readIfPresent(path, MAX_SEALED_BYTES)
      return sealed && sealer.open(sealed, context)
    },
    write: (plain) => atomicWrite(path, sealer.seal(plain, context)),
  }
}

async function readKey(source: SealKeySource): Promise<Buffer> {
  switch (source.kind) {
    case 'key':
      return checkedKey(Buffer.from(source.bytes), 'the given key')
    case 'key-file':
      return checkedKey(decodeKey(await readKeyFile(source.path)), source.path)
    case 'passphrase': {
      if (source.passphrase === '')
        throw new PlatformError('CS_SEAL_KEY_INVALID', 'passphrase is empty')
      return deriveKey(
        source.passphrase.normalize('NFKC'),
        await ensureSalt(source.saltPath),
        KEY_BYTES,
        SCRYPT,
      )
    }
  }
}

async function readKeyFile(path: string): Promise<Buffer> {
  try {
    return await readRequired(path, MAX_KEY_FILE_BYTES)
  } catch (error) {
    throw new PlatformError('CS_SEAL_KEY_INVALID', `key file ${path} cannot be read`, {
      cause: error,
    })
  }
}

function decodeKey(bytes: Buffer): Buffer {
  if (bytes.length === KEY_BYTES) return bytes
  const text = bytes.toString('latin1').trim()
  return /^[A-Za-z0-9+/]{43}=$/.test(text) ? Buffer.from(text, 'base64') : bytes
}

function checkedKey(key: Buffer, from: string): Buffer {
  if (key.length === KEY_BYTES) return key
  throw new PlatformError(
    'CS_SEAL_KEY_INVALID',
    `${from} holds ${key.length} bytes instead of a key of ${KEY_BYTES}`,
  )
}

async function ensureSalt(path: string): Promise<Buffer> {
  const held = await readIfPresent(path, MAX_KEY_FILE_BYTES)
  if (held) {
    if (held.length === SALT_BYTES) return held
    throw new PlatformError(
      'CS_SEAL_KEY_INVALID',
      `salt file ${path} holds ${held.length} bytes instead of ${SALT_BYTES}`,
    )
  }
  const salt = randomBytes(SALT_BYTES)
  await atomicWrite(path, salt)
  return salt
}

function seal(key: Buffer, plain: Uint8Array, context: string): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.from(context))
  return Buffer.concat([MAGIC, nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

function open(key: Buffer, sealed: Uint8Array, context: string): Uint8Array {
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
  const start = MAGIC.length + NONCE_BYTES
  if (bytes.length < start + TAG_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new PlatformError('CS_SEAL_BROKEN', `${context} is not sealed data of a known format`)
  }
  const cipher = createDecipheriv(CIPHER, key, bytes.subarray(MAGIC.length, start), {
    authTagLength: TAG_BYTES,
  })
  cipher.setAAD(Buffer.from(context))
  cipher.setAuthTag(bytes.subarray(bytes.length - TAG_BYTES))
  try {
    return Buffer.concat([
      cipher.update(bytes.subarray(start, bytes.length - TAG_BYTES)),
      cipher.final(),
    ])
  } catch (error) {
    throw new PlatformError('CS_SEAL_BROKEN', `${context} does not open with this key`, {
      cause: error,
    })
  }
}
