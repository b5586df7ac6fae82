import { sign } from 'node:crypto'
import { buildSnapshot, parseDocuments } from '../../policies/index.js'
import type { SignedSnapshot } from '../../proto/gen/countersign/policy/v1/policy.js'
import { makeSpiffeId, type SpiffeId, type X509Svid } from '../../spiffe/index.js'
import type { TestAuthority, TestX509Request } from './authority.js'

/** Where the sentry of a trust domain signs policies. */
export const SIGNER_PATH = '/spire/countersign/policy-signer'
export const ORDERS_PATH = '/ns/shop/sa/orders'

export interface SnapshotWish {
  readonly authority: TestAuthority
  /** Orders unless given. */
  readonly target?: SpiffeId
  readonly generation?: number
  /** The app that the only rule lets in: checkout unless given. */
  readonly caller?: string
  /** An identity of the policy signer, fresh unless given. */
  readonly signer?: X509Svid
}

/** What the sentry would send for an app that one other may call. */
export function signedSnapshot(wish: SnapshotWish): SignedSnapshot {
  const { authority, signer = policySigner(authority) } = wish
  const { target, content } = snapshotContent(wish)
  return signedContent({ target, content, signer })
}

/** Whatever bytes, under a good signature. */
export function signedContent(options: {
  readonly target: string
  readonly content: Uint8Array
  readonly signer: X509Svid
}): SignedSnapshot {
  const { target, signer } = options
  const content = Buffer.from(options.content)
  const key = { key: signer.privateKey, dsaEncoding: 'ieee-p1363' } as const
  return {
    target,
    content,
    signature: sign('sha256', content, key),
    signerChain: signer.chain.map(({ der }) => Buffer.from(der)),
  }
}

export function snapshotContent({
  authority: { trustDomain },
  target = makeSpiffeId(trustDomain, ORDERS_PATH),
  generation = 1,
  caller = 'checkout',
}: SnapshotWish): { readonly target: SpiffeId; readonly content: Uint8Array } {
  const text = `
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: { name: orders, namespace: shop }
spec:
  target: { app: orders }
  rules:
    - name: only
      from: [{ app: ${caller} }]
`
  const documents = parseDocuments(text, 'test')
  const layout = 'kubernetes'
  const { bytes } = buildSnapshot({ trustDomain, layout, target, documents, generation })
  return { target, content: bytes }
}

export function policySigner(
  authority: TestAuthority,
  request: Omit<TestX509Request, 'id'> = {},
): X509Svid {
  return authority.issueX509({ id: SIGNER_PATH, ...request })
}
