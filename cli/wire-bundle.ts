import { createPublicKey } from 'node:crypto'
import { Bundle } from '../proto/gen/spire/api/types/types.js'
import { parseCertificate, parseTrustDomain, type TrustBundle } from '../spiffe/index.js'

/** A bundle as SPIRE's API carries it. Throws `CS_SPIFFE_ID_INVALID`, `CS_CERTIFICATE_MALFORMED`. */
export function bundleFromWire(wire: Bundle): TrustBundle {
  const jwtAuthorities = wire.jwtAuthorities.map(({ keyId, publicKey }) => {
    const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' })
    return [keyId, { keyId, publicKey: key }] as const
  })
  return {
    trustDomain: parseTrustDomain(wire.trustDomain),
    x509Authorities: wire.x509Authorities.map(({ asn1 }) => parseCertificate(asn1)),
    jwtAuthorities: new Map(jwtAuthorities),
    sequence: wire.sequenceNumber,
    refreshHint: Number(wire.refreshHint),
  }
}

export function bundleToWire(bundle: TrustBundle): Bundle {
  return Bundle.fromPartial({
    trustDomain: bundle.trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ der }) => ({ asn1: der })),
    jwtAuthorities: [...bundle.jwtAuthorities.values()].map(({ keyId, publicKey }) => ({
      keyId,
      publicKey: publicKey.export({ format: 'der', type: 'spki' }),
    })),
    refreshHint: BigInt(bundle.refreshHint ?? 0),
    sequenceNumber: bundle.sequence ?? 0n,
  })
}
