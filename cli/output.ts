import { stripVTControlCharacters } from 'node:util'
import type { CliContext, OutputFormat } from './context.js'
import { printable, printableCell, printableLines, printableText } from './printable.js'

/** Version of the JSON that every command prints under `-o json`. */
const SCHEMA_VERSION = 1

/**
 * Prints an answer as JSON with its kind and schema version, or as the text that `table` makes of it. What
 * strangers said in it cannot act on the terminal.
 */
export function print<T extends object>(
  context: CliContext,
  options: { format: OutputFormat; kind: string; value: T; table: (value: T) => string },
): void {
  const { format, kind, value, table } = options
  const text =
    format === 'json'
      ? printableLines(toJson({ schema: `countersign/${kind}/v${SCHEMA_VERSION}`, ...value }))
      : printableText(table(value), context)
  context.stdout.write(text.endsWith('\n') || text === '' ? text : `${text}\n`)
}

function toJson(value: unknown): string {
  return JSON.stringify(
    value,
    (_, item: unknown) => (typeof item === 'bigint' ? item.toString() : item),
    2,
  )
}

/** Columns as wide as their widest cell; the last one is not padded. A cell is one line, whatever it holds. */
export function columns(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows].map((row) => row.map(printableCell))
  const widths = header.map((_, at) => Math.max(...all.map((row) => width(row[at] ?? ''))))
  return all
    .map((row) =>
      row
        .map((cell, at) =>
          at === row.length - 1 ? cell : cell + ' '.repeat((widths[at] ?? 0) - width(cell)),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** Names and values, the values in one column and each in one line. */
export function fields(rows: readonly (readonly [string, string])[]): string {
  const all = rows.map(([name, value]) => [printable(name), printableCell(value)] as const)
  const widest = Math.max(...all.map(([name]) => name.length))
  return all.map(([name, value]) => `${`${name}:`.padEnd(widest + 2)}${value}`).join('\n')
}

const width = (text: string) => stripVTControlCharacters(text).length

/** `in 42 min`, `3 h ago`: a moment as people say it. */
export function relativeTime(at: Date | number, now: Date): string {
  const ms = Number(at) - now.getTime()
  const words = durationWords(Math.abs(ms))
  return ms >= 0 ? `in ${words}` : `${words} ago`
}

/** The largest unit that leaves at least two of it: `90 s`, `42 min`, `36 h`, `12 d`. */
export function durationWords(ms: number): string {
  const seconds = Math.round(ms / 1000)
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} d`
}

export interface Paint {
  green(text: string): string
  red(text: string): string
  yellow(text: string): string
  dim(text: string): string
  bold(text: string): string
}

/** Colours where a terminal wants them; elsewhere the text as it is. */
export function paint(colour: boolean): Paint {
  const wrap = (on: number, off: number) => (text: string) =>
    colour ? `\u001B[${on}m${text}\u001B[${off}m` : text
  return {
    green: wrap(32, 39),
    red: wrap(31, 39),
    yellow: wrap(33, 39),
    dim: wrap(2, 22),
    bold: wrap(1, 22),
  }
}
