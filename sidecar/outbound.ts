import type { RunningTunnel } from './inbound.js'
import type { ProxyContext } from './proxy-context.js'
import type { OutboundTunnel } from './tunnels.js'
export async function startOutbound(_t: OutboundTunnel, _c: ProxyContext): Promise<RunningTunnel> {
  throw new Error('soon')
}
