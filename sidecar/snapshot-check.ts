import { createHash, verify } from 'node:crypto'
import {
  type CompiledPolicy,
  compileSnapshot,
  PolicyError,
  readSnapshot,
} from '../policies/index.js'
import type { SignedSnapshot } from '../proto/gen/countersign/policy/v1/policy.js'
import {
  type BundleSource,
  type Certificate,
  makeSpiffeId,
  parseCertificate,
  SpiffeError,
  type SpiffeId,
  trustDomainOf,
  type VerifiedPeer,
  verifyX509Svid,
} from '../spiffe/index.js'
import { SidecarError } from './errors.js'

export interface CheckOptions {
  /** The own ID: what the snapshot must be for. */
  readonly target: SpiffeId
  readonly bundles: BundleSource
  readonly now: Date
  /** A policy that was made before: the same bytes need not be compiled again. */
  readonly known?: CompiledPolicy | undefined
}

/** The identity under which the sentry signs policies; entries cannot name it. */
const SIGNER_PATH = '/spire/countersign/policy-signer'
const SIGNER_CURVE = 'prime256v1'
const SIGNATURE_BYTES = 64

/**
 * The policy that a signed snapshot holds. Throws `CS_SNAPSHOT_UNTRUSTED`, `CS_SNAPSHOT_MISDIRECTED`,
 * `CS_SNAPSHOT_INCOMPATIBLE` and `CS_SNAPSHOT_INVALID`.
 */
export function checkedPolicy(signed: SignedSnapshot, options: CheckOptions): CompiledPolicy {
  assertSigned(signed, options)
  assertMeantFor(signed.target, options)
  const { known } = options
  if (known && known.id === idOf(signed.content)) return known
  const snapshot = readSnapshot(signed.content)
  assertMeantFor(snapshot.target, options)
  return compileSnapshot(snapshot)
}

/**
 * The generation of a snapshot that was good until its signer expired. It is in force no more, and
 * still nothing older may take its place. Undefined for one that never was good.
 */
export function outlivedGeneration(
  signed: SignedSnapshot,
  options: CheckOptions,
): number | undefined {
  try {
    const [leaf = new Uint8Array()] = signed.signerChain
    const lastMoment = Math.min(parseCertificate(leaf).notAfter, options.now.getTime())
    return checkedPolicy(signed, { ...options, now: new Date(lastMoment) }).generation
  } catch (error) {
    if (isRefusal(error)) return undefined
    throw error
  }
}

function isRefusal(error: unknown): boolean {
  return [SidecarError, PolicyError, SpiffeError].some((kind) => error instanceof kind)
}

/** The signature is checked over the very bytes that are read afterwards, with the key of the verified chain. */
function assertSigned(
  { content, signature, signerChain }: SignedSnapshot,
  options: CheckOptions,
): void {
  const { id, chain } = signerOf(signerChain, options)
  const expected = makeSpiffeId(trustDomainOf(options.target), SIGNER_PATH)
  if (id !== expected) throw untrusted(`snapshot is signed by ${id}, not by ${expected}`)
  const key = { key: signingKeyOf(chain[0]), dsaEncoding: 'ieee-p1363' } as const
  if (signature.length !== SIGNATURE_BYTES || !verify('sha256', content, key, signature)) {
    throw untrusted('signature does not belong to the snapshot')
  }
}

function signerOf(chain: readonly Uint8Array[], { bundles, now }: CheckOptions): VerifiedPeer {
  try {
    return verifyX509Svid({ chain, bundles, now })
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw untrusted(`signer cannot be verified: ${error.message}`, { cause: error })
  }
}

/** One algorithm, so that a signature means one thing. */
function signingKeyOf({ publicKey }: Certificate): Certificate['publicKey'] {
  const { asymmetricKeyType, asymmetricKeyDetails } = publicKey
  if (asymmetricKeyType === 'ec' && asymmetricKeyDetails?.namedCurve === SIGNER_CURVE) {
    return publicKey
  }
  throw untrusted(`signer has a key of type ${asymmetricKeyType}, not P-256`)
}

function assertMeantFor(named: string, { target }: CheckOptions): void {
  if (named === target) return
  throw new SidecarError('CS_SNAPSHOT_MISDIRECTED', `snapshot is for ${named}, not for ${target}`)
}

const idOf = (content: Uint8Array) => createHash('sha256').update(content).digest('hex')

const untrusted = (message: string, options?: ErrorOptions) =>
  new SidecarError('CS_SNAPSHOT_UNTRUSTED', message, options)
