import type { CliContext } from '../context.js'
import { paint } from '../output.js'
import { printable, printableLines } from '../printable.js'

/** What happens in the demonstration, in the order in which it happens. */
export interface DevEvent {
  /** Stable name, for scripts. */
  readonly event: string
  /** Which part it is about: sentry, agent, orders, shop, policy, dev. */
  readonly part: string
  /** For people, one line. */
  readonly text: string
  readonly details?: Readonly<Record<string, unknown>>
}

export interface Report {
  say(event: DevEvent): void
  /** Further lines for people; not an event. */
  note(lines: readonly string[]): void
}

/** `orders-sidecar` */
const WIDEST_PART = 14

/** Prints events as they happen: lines for people, or JSON lines. */
export function report(context: CliContext, json: boolean): Report {
  const start = context.now().getTime()
  if (json) {
    return {
      say: ({ event, part, text, details }) => {
        const time = context.now().toISOString()
        const line = JSON.stringify({ ...details, time, event, part, text })
        context.stdout.write(`${printable(line)}\n`)
      },
      note: () => undefined,
    }
  }
  const { dim, bold } = paint(context.colour)
  return {
    say: ({ part, text }) => {
      const elapsed = `${((context.now().getTime() - start) / 1000).toFixed(1)} s`.padStart(7)
      context.stdout.write(
        `${dim(elapsed)}  ${bold(part.padEnd(WIDEST_PART))} ${printableLines(text)}\n`,
      )
    },
    note: (lines) => context.stdout.write(`${lines.join('\n')}\n`),
  }
}
