import {
  bundleSet,
  parseWorkloadId,
  type TrustBundle,
  verifyJwtSvid,
  verifyX509Svid,
} from '../../spiffe/index.js'
import { assertSaysWhatWasAsked } from '../checks/issued-check.js'
import { makeProvenKey } from '../csr.js'
import { SentryError } from '../errors.js'
import type { JwtSigner, X509Signer } from '../signing/signer.js'
import { emptySubject } from '../subject-name.js'
import { buildSvidTemplate } from '../svid-template.js'
import { buildTokenTemplate } from '../token-template.js'

export interface Trial {
  readonly bundle: TrustBundle
  readonly now: Date
}

const TRIAL_PATH = '/spire/countersign/trial'
const TRIAL_SECONDS = 60
const TRIAL_AUDIENCE = 'countersign-trial'

/**
 * Signs a throwaway SVID and verifies it as a peer would, with nothing but the bundle, before an
 * authority is used. Throws `CS_ISSUE_CHECK_FAILED`.
 */
export function tryX509Signer(signer: X509Signer, { bundle, now }: Trial): void {
  const template = buildSvidTemplate({
    trustDomain: bundle.trustDomain,
    authority: signer.issuer,
    now,
    id: trialId(bundle),
    key: makeProvenKey().key,
    serialNumber: Uint8Array.of(1),
    ttlSeconds: TRIAL_SECONDS,
    dnsNames: [],
    ipAddresses: [],
    subject: emptySubject,
  })
  attempt('X.509 authority', () => {
    const chain = signer.sign(template)
    assertSaysWhatWasAsked(chain, { template, signer })
    verifyX509Svid({ chain, bundles: bundleSet([bundle]), now })
  })
}

/** The same for a key that signs tokens. */
export function tryJwtSigner(signer: JwtSigner, { bundle, now }: Trial): void {
  const template = buildTokenTemplate({
    trustDomain: bundle.trustDomain,
    keyExpiresAt: signer.expiresAt,
    now,
    subject: trialId(bundle),
    audience: [TRIAL_AUDIENCE],
    ttlSeconds: TRIAL_SECONDS,
    tokenId: 'trial',
    issuer: undefined,
  })
  attempt('JWT authority', () => {
    const token = signer.sign(template)
    verifyJwtSvid({ token, bundles: bundleSet([bundle]), audience: TRIAL_AUDIENCE, now })
  })
}

function trialId({ trustDomain }: TrustBundle) {
  return parseWorkloadId(`spiffe://${trustDomain}${TRIAL_PATH}`)
}

function attempt(name: string, run: () => void): void {
  try {
    run()
  } catch (error) {
    throw new SentryError('CS_ISSUE_CHECK_FAILED', `${name} signs what does not verify`, {
      cause: error,
    })
  }
}
