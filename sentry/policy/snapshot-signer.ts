import { sign } from 'node:crypto'
import type { SignedSnapshot } from '../../proto/gen/countersign/policy/v1/policy.js'
import type { SpiffeId, X509Svid } from '../../spiffe/index.js'
import type { PolicyTarget } from './policy-record.js'

/** A snapshot under one signer. The same object for as long as neither changes. */
export interface SignableSnapshot {
  readonly target: SpiffeId
  /** Signs at the first call: it costs a signature, and not every snapshot is asked for. */
  signed(): SignedSnapshot
}

/** Signs what targets enforce, so that nobody on the way can change it. */
export interface SnapshotSigner {
  under(target: PolicyTarget): SignableSnapshot
  /** Snapshots are signed again from now on; those handed out before hold until their signer expires. */
  setIdentity(identity: X509Svid): void
}

export function snapshotSigner(first: X509Svid): SnapshotSigner {
  let identity = first
  let signable = new WeakMap<PolicyTarget, SignableSnapshot>()
  return {
    under(target) {
      const held = signable.get(target)
      if (held) return held
      const made = signableSnapshot(target, identity)
      signable.set(target, made)
      return made
    },
    setIdentity(next) {
      identity = next
      signable = new WeakMap()
    },
  }
}

function signableSnapshot(target: PolicyTarget, identity: X509Svid): SignableSnapshot {
  let signed: SignedSnapshot | undefined
  return {
    target: target.target,
    signed() {
      signed ??= signSnapshot(target, identity)
      return signed
    },
  }
}

function signSnapshot(target: PolicyTarget, { chain, privateKey }: X509Svid): SignedSnapshot {
  const content = Buffer.from(target.content)
  return {
    target: target.target,
    content,
    signature: sign('sha256', content, { key: privateKey, dsaEncoding: 'ieee-p1363' }),
    signerChain: chain.map(({ der }) => der),
  }
}
