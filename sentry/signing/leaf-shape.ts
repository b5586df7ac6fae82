import { keyUsages } from '../../spiffe/index.js'
import type { KeyKind } from '../public-key.js'

/** What a leaf says beyond its template, and which only its kind of key decides. */
export type LeafShape = 'signing' | 'signing-and-encipherment'

const usages: Readonly<Record<LeafShape, number>> = {
  signing: keyUsages.digitalSignature,
  'signing-and-encipherment': keyUsages.digitalSignature | keyUsages.keyEncipherment,
}

/** Encipherment means something for RSA alone (X509-SVID §4.3). */
export function shapeFor(kind: KeyKind): LeafShape {
  return kind === 'rsa' ? 'signing-and-encipherment' : 'signing'
}

export function keyUsageOf(shape: LeafShape): number {
  return usages[shape]
}
