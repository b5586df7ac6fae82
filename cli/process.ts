import { createWriteStream } from 'node:fs'
import type { CliContext } from './context.js'

/** Set by whoever starts a component and wants to know when it is ready: the number of a pipe to write to. */
export const READY_FD_VARIABLE = 'COUNTERSIGN_READY_FD'
/** Set by whoever starts a component that must not outlive it: standard input is then a pipe that ends with the parent. */
export const STOP_WITH_PARENT_VARIABLE = 'COUNTERSIGN_STOP_WITH_PARENT'

/** Tells the process that started this one, if it asked, that the work has begun and where it is served. */
export function announceReady(
  context: Pick<CliContext, 'environment'>,
  addresses: Readonly<Record<string, unknown>>,
): void {
  const fd = Number(context.environment[READY_FD_VARIABLE])
  if (!Number.isInteger(fd) || fd < 3) return
  // Whoever asked may be gone by now, which is no reason to end.
  const pipe = createWriteStream('', { fd }).on('error', () => undefined)
  pipe.end(`${JSON.stringify(addresses)}\n`)
}

/**
 * What a command does when its standard output is closed under it. A component serves others, whoever reads its
 * access log; the demonstration has processes to end; for the rest (`entry list | head -1`) it is no error.
 */
export function whenUnread(args: readonly string[]): 'go on' | 'stop' | 'exit' {
  const [noun, verb] = args.filter((arg) => !arg.startsWith('-'))
  if (verb === 'run') return 'go on'
  return noun === 'dev' ? 'stop' : 'exit'
}

/**
 * Resolves with the name of what asks this process to stop: a signal, or the end of the process that
 * started it. SIGHUP asks for nothing here and does not end the process.
 */
export function stopRequested(
  context: Pick<CliContext, 'environment' | 'stdin' | 'signal'>,
): Promise<string> {
  return new Promise((resolve) => {
    const stop = () => resolve(String(context.signal.reason ?? 'stop'))
    if (context.signal.aborted) stop()
    context.signal.addEventListener('abort', stop, { once: true })
    if (context.environment[STOP_WITH_PARENT_VARIABLE] === '1') {
      context.stdin.once('end', () => resolve('end of the parent process'))
      context.stdin.once('error', () => resolve('end of the parent process'))
      context.stdin.resume()
    }
  })
}
