import type { CliContext } from './context.js'
import { CliError } from './errors.js'

/** All of standard input. Throws `CS_USAGE` at the first byte beyond the limit. */
export async function readInput(
  { stdin }: Pick<CliContext, 'stdin'>,
  maxBytes: number,
): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of stdin as AsyncIterable<Buffer | string>) {
    const bytes = Buffer.from(chunk)
    length += bytes.length
    if (length > maxBytes) throw new CliError('CS_USAGE', `input is longer than ${maxBytes} bytes`)
    chunks.push(bytes)
  }
  return Buffer.concat(chunks, length)
}
