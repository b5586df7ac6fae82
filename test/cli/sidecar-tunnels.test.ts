import { describe, expect, test } from 'vitest'
import { type SidecarSettings, sidecarSettings } from '../../cli/config/sidecar-settings.js'
import { inboundTunnel, outboundTunnel } from '../../cli/sidecar-tunnels.js'

type Inbound = SidecarSettings['inbound'][number]
type Outbound = SidecarSettings['outbound'][number]
type RouteSettings = Outbound['routes'][number]

const inbound = (changes: Partial<Inbound> = {}): Inbound => ({
  listen: '0.0.0.0:8443',
  app: '127.0.0.1:8080',
  protocol: 'http1',
  unsafe_app: false,
  ...changes,
})
const route = (changes: Partial<RouteSettings> = {}): RouteSettings => ({
  host: 'orders',
  address: '10.0.0.7:8443',
  expect: ['spiffe://prod.test/ns/shop/sa/orders'],
  ...changes,
})
const outbound = (changes: Partial<Outbound> = {}): Outbound => ({
  listen: '127.0.0.1:9000',
  protocol: 'http',
  unsafe_listen: false,
  routes: [route()],
  ...changes,
})
/** As when a setting without a default is left out. */
function without<Settings extends object>(settings: Settings, name: keyof Settings): Settings {
  return Object.fromEntries(Object.entries(settings).filter(([key]) => key !== name)) as Settings
}
const withRoute = (changes: Partial<RouteSettings>) => outbound({ routes: [route(changes)] })

describe('an inbound listener', () => {
  test.each<[string, string, unknown]>([
    ['a port of this machine', '127.0.0.1:8080', { host: '127.0.0.1', port: 8080 }],
    ['another loopback address', '127.8.9.10:80', { host: '127.8.9.10', port: 80 }],
    ['loopback of IPv6', '[::1]:8080', { host: '::1', port: 8080 }],
    ['the name of loopback', 'localhost:8080', { host: 'localhost', port: 8080 }],
    ['a Unix socket', 'unix:/run/app.sock', { path: '/run/app.sock' }],
    ['a Unix socket as a URL', 'unix:///run/app.sock', { path: '/run/app.sock' }],
    ['the longest socket path', `unix:/${'a'.repeat(106)}`, { path: `/${'a'.repeat(106)}` }],
  ])('forwards to %s', (_, app, expected) => {
    expect(inboundTunnel(inbound({ app }))).toEqual({
      listen: { host: '0.0.0.0', port: 8443 },
      app: expected,
      protocol: 'http1',
    })
  })

  test.each<[string, string, RegExp]>([
    ['an app on another machine (PX-04)', '10.0.0.9:8080', /loopback/],
    ['an app on all addresses (PX-04)', '0.0.0.0:8080', /loopback/],
    ['an app without a host (PX-04)', ':8080', /loopback/],
    ['an app under a name that may be anywhere (PX-04)', 'app:8080', /loopback/],
    ['a name that only begins like loopback (PX-04)', '127.0.0.1.evil.test:80', /loopback/],
    ['an app without a port', '127.0.0.1', /host:port or unix/],
    ['an app at port 0', '127.0.0.1:0', /host:port or unix/],
    ['an app at a port past the last', '127.0.0.1:65536', /host:port or unix/],
    ['an app at a relative path', 'unix:app.sock', /host:port or unix/],
    ['a socket path that the system would cut short', `unix:/${'a'.repeat(107)}`, /longer than/],
    ['nothing for an app', '', /host:port or unix/],
  ])('refuses %s', (_, app, message) => {
    expect(() => inboundTunnel(inbound({ app }))).toThrow(
      expect.objectContaining({
        code: 'CS_CONFIG_INVALID',
        message: expect.stringMatching(message),
      }),
    )
  })

  test.each(['listen', 'app'] as const)('refuses to be without %s', (name) => {
    expect(() => inboundTunnel(without(inbound(), name))).toThrow(
      expect.objectContaining({
        code: 'CS_CONFIG_INVALID',
        message: expect.stringContaining(`inbound.${name} is missing`),
      }),
    )
  })
})

describe('an outbound listener', () => {
  test('calls the destinations that are expected, and those of a trust domain', () => {
    const member = route({ host: '*', expect: [], expect_trust_domain: 'partner.test' })
    const settings = outbound({ routes: [route({ host: 'Orders.Shop.' }), member] })
    expect(outboundTunnel(settings)).toEqual({
      listen: { host: '127.0.0.1', port: 9000 },
      protocol: 'http',
      routes: [
        {
          host: 'orders.shop',
          address: { host: '10.0.0.7', port: 8443 },
          expect: { kind: 'one-of', ids: ['spiffe://prod.test/ns/shop/sa/orders'] },
        },
        {
          host: '*',
          address: { host: '10.0.0.7', port: 8443 },
          expect: { kind: 'member-of', trustDomain: 'partner.test' },
        },
      ],
    })
  })

  test.each<[string, Outbound, RegExp]>([
    ['listens on all addresses (PX-04)', outbound({ listen: ':9000' }), /loopback/],
    ['listens on the network (PX-04)', outbound({ listen: '192.168.0.2:9000' }), /loopback/],
    ['listens nowhere', without(outbound(), 'listen'), /outbound\.listen is missing/],
    ['has no routes', outbound({ routes: [] }), /no routes/],
    [
      'is for tcp and has two routes',
      outbound({ protocol: 'tcp', routes: [route(), route({ host: 'b' })] }),
      /one route/,
    ],
    [
      'has two routes for one host',
      outbound({ routes: [route(), route({ host: 'ORDERS.' })] }),
      /two routes for orders/,
    ],
    ['does not say whom it calls (PX-05)', withRoute({ expect: [] }), /whom it calls/],
    ['says twice whom it calls', withRoute({ expect_trust_domain: 'prod.test' }), /not both/],
    ['names a host with a port', withRoute({ host: 'orders:80' }), /without port/],
    ['names no host', withRoute({ host: '' }), /without port/],
    ['names a host with a blank', withRoute({ host: 'or ders' }), /without port/],
    ['names a host with a star in it', withRoute({ host: '*.shop' }), /without port/],
    ['names no address', outbound({ routes: [without(route(), 'address')] }), /address is missing/],
    ['names an address at port 0', withRoute({ address: '10.0.0.7:0' }), /without a port/],
  ])('is refused when it %s', (_, settings, message) => {
    expect(() => outboundTunnel(settings)).toThrow(
      expect.objectContaining({
        code: 'CS_CONFIG_INVALID',
        message: expect.stringMatching(message),
      }),
    )
  })

  test.each([
    ['the ID of a trust domain', { expect: ['spiffe://prod.test'] }],
    ['an ID with a wildcard', { expect: ['spiffe://prod.test/ns/*'] }],
    ['a trust domain in capitals', { expect: [], expect_trust_domain: 'Prod.test' }],
  ])('is refused when it expects %s', (_, changes) => {
    expect(() => outboundTunnel(withRoute(changes))).toThrow(
      expect.objectContaining({ code: 'CS_SPIFFE_ID_INVALID' }),
    )
  })
})

test('the settings say of both plain sides that they stay on this machine', () => {
  const { inbound: front, outbound: back } = sidecarSettings.properties
  expect(front.items.properties.app.description).toContain('this machine')
  expect(back.items.properties.listen.description).toContain('loopback only')
})

describe('the plain side leaves this machine (PX-04)', () => {
  test('only when a setting with a loud name says so', () => {
    expect(inboundTunnel(inbound({ app: '10.0.0.9:8080', unsafe_app: true })).app).toEqual({
      host: '10.0.0.9',
      port: 8080,
    })
    expect(outboundTunnel(outbound({ listen: ':9000', unsafe_listen: true })).listen).toEqual({
      host: '0.0.0.0',
      port: 9000,
    })
  })
})
