import type { CompiledRule } from './compile.js'
import { pathOfGrpc } from './pattern.js'

/** One way in which a rule can match; each becomes one entry. */
export interface Way {
  readonly kind: 'everything' | 'any-path' | 'path' | 'tcp'
  readonly methods: readonly string[] | undefined
  /** The path pattern, of a gRPC method too; empty when the way is not about a path. */
  readonly path: string
  /** As the document spells it. */
  readonly pattern: string | undefined
}

const EVERYTHING: Way = { kind: 'everything', methods: undefined, path: '', pattern: undefined }
const TCP: Way = { kind: 'tcp', methods: undefined, path: '', pattern: undefined }

/** Shows every way of a rule, always in the same order. */
export function eachWay(compiled: CompiledRule, visit: (way: Way) => void): void {
  const { to } = compiled.rule
  if (to === undefined) {
    visit(EVERYTHING)
    return
  }
  let isForTcp = false
  for (const operation of to) {
    switch (operation.kind) {
      case 'tcp':
        isForTcp = true
        visit(TCP)
        break
      case 'grpc':
        for (const pattern of operation.methods) {
          visit({ kind: 'path', methods: undefined, path: pathOfGrpc(pattern), pattern })
        }
        break
      case 'http': {
        const { methods, paths } = operation
        if (paths === undefined) visit({ kind: 'any-path', methods, path: '', pattern: undefined })
        else for (const path of paths) visit({ kind: 'path', methods, path, pattern: path })
      }
    }
  }
  // On a raw connection the attributes of HTTP are missing, and what is missing matches a deny.
  if (compiled.class !== 'allow' && !isForTcp) visit(TCP)
}
