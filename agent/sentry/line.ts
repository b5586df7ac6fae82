import type { Connection } from './connection.js'

/** The connection to the sentry as the rest of the agent sees it: being made, open, or known to fail. */
export interface Line {
  /** The open connection, if there is one. */
  current(): Connection | undefined
  /** Waits for a connection that is being made. Throws why the last attempt failed, or the signal's reason. */
  whenOpen(signal: AbortSignal): Promise<Connection>
  dialling(): void
  opened(connection: Connection): void
  failed(error: Error): void
}

type State =
  | { readonly kind: 'dialling' }
  | { readonly kind: 'open'; readonly connection: Connection }
  | { readonly kind: 'failed'; readonly error: Error }

export function sentryLine(): Line {
  let state: State = { kind: 'dialling' }
  const waiting = new Set<() => void>()
  const enter = (next: State) => {
    state = next
    if (next.kind !== 'dialling') for (const wake of waiting) wake()
  }
  return {
    current: () => (state.kind === 'open' ? state.connection : undefined),
    async whenOpen(signal) {
      for (;;) {
        signal.throwIfAborted()
        switch (state.kind) {
          case 'open':
            return state.connection
          case 'failed':
            throw state.error
          case 'dialling':
            await woken(signal)
        }
      }
    },
    dialling: () => enter({ kind: 'dialling' }),
    opened: (connection) => enter({ kind: 'open', connection }),
    failed: (error) => enter({ kind: 'failed', error }),
  }

  function woken(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        waiting.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      waiting.add(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  }
}
