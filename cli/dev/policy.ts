/** Who may call whom in the demonstration: the shop may read orders, and nothing else is allowed. */
export const demoPolicy = `apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: { name: orders, namespace: shop }
spec:
  target: { app: orders }
  rules:
    - name: shop-reads-orders
      from: [{ app: shop }]
      to: [{ methods: [GET], paths: ["/orders/{*}"] }]
---
apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: { name: orders, namespace: shop }
spec:
  cases:
    - from: spiffe://example.test/ns/shop/sa/shop
      to: { app: orders, method: GET, path: /orders/42 }
      expect: allow
      rule: orders/shop-reads-orders
    - from: spiffe://example.test/ns/shop/sa/shop
      to: { app: orders, method: DELETE, path: /orders/42 }
      expect: deny
`

/** The demonstration's policy for a trust domain of another name. */
export function demoPolicyFor(trustDomain: string): string {
  return demoPolicy.replaceAll('spiffe://example.test/', `spiffe://${trustDomain}/`)
}
