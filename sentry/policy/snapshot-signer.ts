import { sign } from 'node:crypto'
import type { SignedSnapshot } from '../../proto/gen/countersign/policy/v1/policy.js'
import type { X509Svid } from '../../spiffe/index.js'
import type { PolicyTarget } from './policy-record.js'

/** Signs what targets enforce, so that nobody on the way can change it. Each snapshot once per identity. */
export interface SnapshotSigner {
  sign(target: PolicyTarget): SignedSnapshot
  /** Snapshots are signed again from now on; those handed out before stay valid until their signer expires. */
  setIdentity(identity: X509Svid): void
}

export function snapshotSigner(first: X509Svid): SnapshotSigner {
  let identity = first
  let signed = new WeakMap<PolicyTarget, SignedSnapshot>()
  return {
    sign(target) {
      const held = signed.get(target)
      if (held) return held
      const made = signSnapshot(target, identity)
      signed.set(target, made)
      return made
    },
    setIdentity(next) {
      identity = next
      signed = new WeakMap()
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
