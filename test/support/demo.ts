import { type RunningProgram, startProgram } from './countersign.js'

/** The demonstration, running, with the addresses that a test needs. */
export interface RunningDemo extends AsyncDisposable {
  readonly program: RunningProgram
  readonly trustDomain: 'example.test'
  readonly ids: { readonly orders: string; readonly shop: string }
  /** Addresses of the Workload API as `unix://…`, one for each app. */
  readonly endpoints: { readonly orders: string; readonly shop: string }
  readonly sentrySocket: string
  readonly agentSocket: string
  readonly agentAdminSocket: string
  readonly shop: string
  /** What a part announced in its present life. */
  addressesOf(part: string): Readonly<Record<string, string>>
  /** Process id of a part in its present life. */
  pidOf(part: string): number
  readonly events: () => readonly DemoEvent[]
}

export interface DemoEvent {
  readonly event: string
  readonly part: string
  readonly [detail: string]: unknown
}

export async function startDemo(args: readonly string[] = []): Promise<RunningDemo> {
  const program = await startProgram(['dev', '--json', ...args])
  const events = () => program.stdout.map((line) => JSON.parse(line) as DemoEvent)
  const readyOf = (part: string) => {
    const ready = events().findLast(
      (event) => event.event === 'process-ready' && event.part === part,
    )
    if (!ready) throw new Error(`${part} does not run`)
    return ready
  }
  const { addresses } = program
  return {
    program,
    trustDomain: 'example.test',
    ids: {
      orders: 'spiffe://example.test/ns/shop/sa/orders',
      shop: 'spiffe://example.test/ns/shop/sa/shop',
    },
    endpoints: {
      orders: `unix://${addresses.orders_socket}`,
      shop: `unix://${addresses.shop_socket}`,
    },
    sentrySocket: addresses.sentry_socket ?? '',
    agentSocket: addresses.agent_socket ?? '',
    agentAdminSocket: addresses.agent_admin_socket ?? '',
    shop: addresses.shop ?? '',
    addressesOf: (part) => readyOf(part).addresses as Record<string, string>,
    pidOf: (part) => Number(readyOf(part).pid),
    events,
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  }
}
