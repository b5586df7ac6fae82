import { type HostPort, parseHostPort } from '../platform/listen.js'
import type { InboundTunnel, OutboundTunnel, Route } from '../sidecar/tunnels.js'
import { parseTrustDomain, parseWorkloadId } from '../spiffe/index.js'
import { required, requiredAddress } from './config/required.js'
import type { SidecarSettings } from './config/sidecar-settings.js'
import { CliError } from './errors.js'

type InboundSettings = SidecarSettings['inbound'][number]
type OutboundSettings = SidecarSettings['outbound'][number]
type RouteSettings = OutboundSettings['routes'][number]

/** The listeners in front of the app, as the sidecar takes them. Throws `CS_CONFIG_INVALID`. */
export function inboundTunnel(settings: InboundSettings): InboundTunnel {
  return {
    listen: requiredAddress('inbound.listen', settings.listen),
    app: appAddress(required('inbound.app', settings.app)),
    protocol: settings.protocol,
  }
}

/** `host:port`, or `unix:/path`. */
function appAddress(text: string): HostPort | { readonly path: string } {
  const path = /^unix:(?:\/\/)?(\/.+)$/.exec(text)?.[1]
  if (path !== undefined) return { path }
  const address = parseHostPort(text)
  if (address) return address
  throw new CliError('CS_CONFIG_INVALID', `inbound.app takes host:port or unix:/path, not ${text}`)
}

/** The listeners for calls of the app. Throws `CS_CONFIG_INVALID`, `CS_SPIFFE_ID_INVALID`. */
export function outboundTunnel(settings: OutboundSettings): OutboundTunnel {
  return {
    listen: requiredAddress('outbound.listen', settings.listen),
    protocol: settings.protocol,
    routes: settings.routes.map(route),
  }
}

function route(settings: RouteSettings): Route {
  return {
    host: settings.host.toLowerCase(),
    address: requiredAddress('outbound.routes.address', settings.address),
    expect: expectation(settings),
  }
}

/** One of the two must be given: a destination that may be anybody is none. */
function expectation({ expect, expect_trust_domain: name, host }: RouteSettings): Route['expect'] {
  if (name !== undefined && expect.length > 0) {
    throw new CliError(
      'CS_CONFIG_INVALID',
      `the route for ${host} takes expect or expect_trust_domain, not both`,
    )
  }
  if (name !== undefined) return { kind: 'member-of', trustDomain: parseTrustDomain(name) }
  if (expect.length > 0) return { kind: 'one-of', ids: expect.map(parseWorkloadId) }
  throw new CliError('CS_CONFIG_INVALID', `the route for ${host} must say in expect whom it calls`)
}
