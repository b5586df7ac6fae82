import { isIPv4 } from 'node:net'
import { type HostPort, parseHostPort } from '../platform/listen.js'
import { normaliseHost } from '../policies/index.js'
import type { InboundTunnel, OutboundTunnel, Route } from '../sidecar/tunnels.js'
import { parseTrustDomain, parseWorkloadId } from '../spiffe/index.js'
import { required, requiredAddress } from './config/required.js'
import type { SidecarSettings } from './config/sidecar-settings.js'
import { CliError } from './errors.js'

type InboundSettings = SidecarSettings['inbound'][number]
type OutboundSettings = SidecarSettings['outbound'][number]
type RouteSettings = OutboundSettings['routes'][number]

/** `sun_path` holds 108 bytes with its final zero; a longer path would be cut short by the system. */
const MAX_SOCKET_PATH_BYTES = 107
const ANY_HOST = '*'

/** The listeners in front of the app, as the sidecar takes them. Throws `CS_CONFIG_INVALID`. */
export function inboundTunnel(settings: InboundSettings): InboundTunnel {
  return {
    listen: requiredAddress('inbound.listen', settings.listen),
    app: appAddress(required('inbound.app', settings.app), settings),
    protocol: settings.protocol,
  }
}

/** `host:port` on this machine, or `unix:/path`: what goes there is not encrypted. */
function appAddress(text: string, { unsafe_app: unsafe }: InboundSettings): InboundTunnel['app'] {
  const path = /^unix:(?:\/\/)?(\/.+)$/.exec(text)?.[1]
  if (path !== undefined) return socketPath(path)
  const address = parseHostPort(text)
  if (!address || address.port === 0) {
    throw invalid(`inbound.app takes host:port or unix:/path, not ${text}`)
  }
  return unsafe ? address : onThisMachine('inbound.app', address)
}

function socketPath(path: string): InboundTunnel['app'] {
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return { path }
  throw invalid(`inbound.app names a socket path longer than ${MAX_SOCKET_PATH_BYTES} bytes`)
}

/** The listeners for calls of the app. Throws `CS_CONFIG_INVALID`, `CS_SPIFFE_ID_INVALID`. */
export function outboundTunnel(settings: OutboundSettings): OutboundTunnel {
  const { protocol } = settings
  const listen = requiredAddress('outbound.listen', settings.listen)
  const routes = settings.routes.map(route)
  assertRoutes({ listen, protocol, routes })
  const { unsafe_listen: unsafe } = settings
  return { listen: unsafe ? listen : onThisMachine('outbound.listen', listen), protocol, routes }
}

/** Each call has one route, or none, and never a choice of two. */
function assertRoutes({ listen, protocol, routes }: OutboundTunnel): void {
  const name = `outbound listener on port ${listen.port}`
  if (routes.length === 0) throw invalid(`the ${name} has no routes, so nothing can be called`)
  if (protocol === 'tcp' && routes.length > 1) {
    throw invalid(`the ${name} is for tcp and takes one route, not ${routes.length}`)
  }
  const hosts = routes.map(({ host }) => host)
  const twice = hosts.find((host, at) => hosts.indexOf(host) !== at)
  if (twice !== undefined) throw invalid(`the ${name} has two routes for ${twice}`)
}

function route(settings: RouteSettings): Route {
  const address = requiredAddress('outbound.routes.address', settings.address)
  const { host } = settings
  if (address.port === 0) throw invalid(`the route for ${host} has an address without a port`)
  return { host: routeHost(host), address, expect: expectation(settings) }
}

/** As requests are compared with it; a port in it would never match. */
function routeHost(host: string): string {
  if (host === ANY_HOST) return host
  const normal = normaliseHost(host)
  const asGiven = host.toLowerCase().replace(/\.$/, '')
  if (normal !== '' && normal === asGiven && !/[\s/*@,]/.test(normal)) return normal
  throw invalid(`outbound.routes.host takes a host name without port, or *, not ${host}`)
}

/** One of the two must be given: a destination that may be anybody is none. */
function expectation({ expect, expect_trust_domain: name, host }: RouteSettings): Route['expect'] {
  if (name !== undefined && expect.length > 0) {
    throw invalid(`the route for ${host} takes expect or expect_trust_domain, not both`)
  }
  if (name !== undefined) return { kind: 'member-of', trustDomain: parseTrustDomain(name) }
  if (expect.length > 0) return { kind: 'one-of', ids: expect.map(parseWorkloadId) }
  throw invalid(`the route for ${host} must say in expect whom it calls`)
}

/** The plain side does not leave this machine, unless a setting with a loud name says so. */
function onThisMachine(name: string, address: HostPort): HostPort {
  const { host } = address
  if (host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))) {
    return address
  }
  throw invalid(`${name} is not encrypted and takes a loopback address, not ${host}`)
}

const invalid = (message: string) => new CliError('CS_CONFIG_INVALID', message)
