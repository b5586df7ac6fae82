import {
  makeSpiffeId,
  pathOf,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from '../spiffe/index.js'

/** How a deployment spells the SPIFFE IDs of its apps. */
export type Layout = 'kubernetes' | 'dapr'

export interface App {
  readonly namespace: string
  readonly app: string
}

/** The path of a SPIFFE ID, with two holes. */
const templates: Readonly<Record<Layout, { readonly before: string; readonly between: string }>> = {
  kubernetes: { before: '/ns/', between: '/sa/' },
  dapr: { before: '/ns/', between: '/' },
}

export const layouts = Object.keys(templates) as readonly Layout[]

/** The SPIFFE ID of an app. Throws `CS_SPIFFE_ID_INVALID`. */
export function idOfApp(layout: Layout, trustDomain: TrustDomain, app: App): SpiffeId {
  return makeSpiffeId(trustDomain, pathOfApp(layout, app))
}

/** The path of an app's SPIFFE ID; with `{*}` for its name, that of every app of the namespace. */
export function pathOfApp(layout: Layout, { namespace, app }: App): string {
  const { before, between } = templates[layout]
  return `${before}${namespace}${between}${app}`
}

/** The app that an ID names, or `undefined` when it is not of the shape that the layout gives to apps. */
export function appOfId(layout: Layout, id: SpiffeId): App | undefined {
  const { before, between } = templates[layout]
  const path = pathOf(id)
  if (!path.startsWith(before)) return undefined
  const namespace = path.slice(before.length).split('/')[0] ?? ''
  const start = before.length + namespace.length
  const app = path.slice(start + between.length)
  if (!path.startsWith(between, start) || app === '' || app.includes('/')) return undefined
  return { namespace, app }
}

/** The app in the local trust domain that an ID names; a foreign ID names none. */
export function localAppOf(
  id: SpiffeId,
  { layout, trustDomain }: { readonly layout: Layout; readonly trustDomain: TrustDomain },
): App | undefined {
  return trustDomainOf(id) === trustDomain ? appOfId(layout, id) : undefined
}
