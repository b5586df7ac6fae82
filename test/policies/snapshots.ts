import { canonicalJson, type Json } from '../../policies/canonical-json.js'

/** The bytes of an empty snapshot of orders, with other values in the fields that are given. */
export function snapshotBytes(fields: { readonly [name: string]: Json } = {}): Uint8Array {
  const snapshot = {
    aliases: {},
    app: { layout: 'kubernetes', name: 'orders', namespace: 'shop' },
    format: 1,
    generation: 1,
    guardrails: [],
    policies: [],
    requires: [],
    shadow: [],
    target: 'spiffe://example.test/ns/shop/sa/orders',
    trustDomain: 'example.test',
    ...fields,
  }
  return new TextEncoder().encode(canonicalJson(snapshot))
}
