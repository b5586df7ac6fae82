import { verify } from 'node:crypto'
import { type CompiledPolicy, compileSnapshot, readSnapshot } from '../policies/index.js'
import type { SignedSnapshot } from '../proto/gen/countersign/policy/v1/policy.js'
import {
  type BundleSource,
  makeSpiffeId,
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
}

/** The identity under which the sentry signs policies; entries cannot name it. */
const SIGNER_PATH = '/spire/countersign/policy-signer'
const SIGNATURE_BYTES = 64

/**
 * The policy that a signed snapshot holds. Throws `CS_SNAPSHOT_UNTRUSTED`, `CS_SNAPSHOT_MISDIRECTED`,
 * `CS_SNAPSHOT_INCOMPATIBLE` and `CS_SNAPSHOT_INVALID`.
 */
export function checkedPolicy(signed: SignedSnapshot, options: CheckOptions): CompiledPolicy {
  assertSigned(signed, options)
  const snapshot = readSnapshot(signed.content)
  if (snapshot.target !== options.target || signed.target !== options.target) {
    throw new SidecarError(
      'CS_SNAPSHOT_MISDIRECTED',
      `snapshot is for ${snapshot.target}, not for ${options.target}`,
    )
  }
  return compileSnapshot(snapshot)
}

/** The signature is checked over the very bytes that are read afterwards, with the key of the verified chain. */
function assertSigned(
  { content, signature, signerChain }: SignedSnapshot,
  options: CheckOptions,
): void {
  const { id, chain } = signerOf(signerChain, options)
  const expected = makeSpiffeId(trustDomainOf(options.target), SIGNER_PATH)
  if (id !== expected) throw untrusted(`snapshot is signed by ${id}, not by ${expected}`)
  const key = { key: chain[0].publicKey, dsaEncoding: 'ieee-p1363' } as const
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

const untrusted = (message: string, options?: ErrorOptions) =>
  new SidecarError('CS_SNAPSHOT_UNTRUSTED', message, options)
