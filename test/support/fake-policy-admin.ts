import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import {
  type DocumentRef,
  PolicyAdminService,
  type StatusResponse,
  type StatusResponse_Proxy,
  type StoredDocument,
} from '../../proto/gen/countersign/policy/v1/policy.js'
import type { AdmittedDocument, PolicyCompiler } from '../../sentry/policy/compiler.js'
import type { SpiffeId } from '../../spiffe/index.js'

export interface FakePolicyAdmin extends AsyncDisposable {
  /** What is stored, in the order in which it came. */
  documents(): readonly StoredDocument[]
  /** A proxy says what it enforces; without a snapshot id, the latest. */
  report(proxy: {
    readonly target: SpiffeId
    readonly snapshotId?: string
    readonly state?: string
    readonly code?: string
    readonly connected?: boolean
  }): void
  /** Resolves when a call of WatchStatus is open. */
  watched(): Promise<void>
}

export interface FakePolicyAdminOptions {
  readonly socket: string
  readonly compiler: PolicyCompiler
  /** What entries name. */
  readonly targets: readonly SpiffeId[]
  /** Milliseconds since 1970, for everything that is dated. */
  readonly now: number
}

/** PolicyAdmin over a real socket and with a real compiler; what it stores is in memory. */
export async function fakePolicyAdmin(options: FakePolicyAdminOptions): Promise<FakePolicyAdmin> {
  const { compiler, targets } = options
  const seconds = BigInt(Math.floor(options.now / 1000))
  const stored = new Map<string, StoredDocument & { readonly ref: DocumentRef }>()
  const generations = new Map<SpiffeId, { key: string; generation: bigint }>()
  const proxies = new Map<string, StatusResponse_Proxy>()
  const watchers = new Set<ServerWritableStream<unknown, StatusResponse>>()
  let announce = () => {}
  let sequence = 0n

  const admitted = (): readonly AdmittedDocument[] => [...stored.values()]
  const snapshotOf = (target: SpiffeId) => {
    const documents = admitted()
    const key = compiler.contentKey({ target, documents })
    const held = generations.get(target)
    const generation = held?.key === key ? held.generation : (held?.generation ?? 0n) + 1n
    generations.set(target, { key, generation })
    return { ...compiler.snapshot({ target, documents, generation }), generation }
  }
  const snapshots = () => new Map(targets.map((target) => [target, snapshotOf(target)]))
  const statusNow = (): StatusResponse => ({
    targets: [...snapshots()].map(([target, { id, generation }]) => ({
      target,
      snapshotId: id,
      generation,
    })),
    proxies: [...proxies.values()],
  })
  const tell = () => {
    for (const watcher of watchers) watcher.write(statusNow())
  }
  /** Runs a change and says which targets it changed. */
  const changing = (change: () => void) => {
    const before = snapshots()
    change()
    const changedTargets = new Map<string, string>()
    for (const [target, { id }] of snapshots()) {
      if (before.get(target)?.id !== id) changedTargets.set(target, id)
    }
    sequence++
    tell()
    return { sequence, changedTargets }
  }

  const server = new Server()
  server.addService(PolicyAdminService, {
    apply: unary(({ text, source, dryRun }: { text: string; source: string; dryRun: boolean }) => {
      const documents = compiler.admit({ text, source, existing: admitted() })
      const outcomes = documents.map(({ ref, json }) => {
        const held = stored.get(keyOf(ref))
        const change = held === undefined ? 'created' : held.json === json ? 'unchanged' : 'updated'
        const revision = (held?.revision ?? 0n) + (change === 'unchanged' ? 0n : 1n)
        return { ref, json, change, revision }
      })
      const kept = new Map(stored)
      const answer = changing(() => {
        for (const { ref, json, revision } of outcomes) {
          stored.set(keyOf(ref), { ref, json, revision, updatedAt: seconds })
        }
      })
      if (dryRun) {
        stored.clear()
        for (const [key, document] of kept) stored.set(key, document)
      }
      return { ...answer, outcomes }
    }),
    list: unary(({ kind, namespace, name }: DocumentRef) => ({
      documents: [...stored.values()].filter(
        ({ ref }) =>
          (kind === '' || ref.kind === kind) &&
          (namespace === '' || ref.namespace === namespace) &&
          (name === '' || ref.name === name),
      ),
    })),
    delete: unary(({ refs }: { refs: readonly DocumentRef[] }) =>
      changing(() => {
        for (const ref of refs) stored.delete(keyOf(ref))
      }),
    ),
    getSnapshot: unary(({ target }: { target: string }) => {
      const known = targets.find((one) => one === target)
      if (known === undefined) throw new NotFound(`${target} is not a target`)
      const { bytes } = snapshotOf(known)
      return { target, content: Buffer.from(bytes), signature: Buffer.alloc(64), signerChain: [] }
    }),
    watchStatus(stream: ServerWritableStream<unknown, StatusResponse>) {
      watchers.add(stream)
      stream.on('cancelled', () => watchers.delete(stream))
      stream.write(statusNow())
      announce()
    },
  })
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${options.socket}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    )
  })

  return {
    documents: () => [...stored.values()],
    report({ target, snapshotId, state = 'current', code = '', connected = true }) {
      const { id, generation } = snapshotOf(target)
      const report = {
        target,
        instance: 'sidecar-1',
        snapshotId: snapshotId ?? id,
        generation,
        state,
        code,
      }
      const agent = 'spiffe://example.test/agent/1'
      proxies.set(target, { report, agent, reportedAt: seconds, connected })
      tell()
    },
    watched: () =>
      watchers.size > 0 ? Promise.resolve() : new Promise((resolve) => (announce = resolve)),
    [Symbol.asyncDispose]() {
      server.forceShutdown()
      return Promise.resolve()
    },
  }
}

const keyOf = ({ kind, namespace, name }: DocumentRef) => `${kind}/${namespace}/${name}`

class NotFound extends Error {
  readonly code = 'CS_POLICY_NOT_FOUND'
}

/** Answers, or refuses with the code in the trailer as the sentry does. */
function unary<Q, A>(answer: (request: Q) => A) {
  return (call: { readonly request: Q }, callback: sendUnaryData<A>) => {
    try {
      callback(null, answer(call.request))
    } catch (error) {
      const { message: details, code = 'CS_INTERNAL' } = error as Error & { code?: string }
      const metadata = new Metadata()
      metadata.set('countersign-code', code)
      const wire = error instanceof NotFound ? status.NOT_FOUND : status.INVALID_ARGUMENT
      callback({ name: 'refusal', message: details, details, code: wire, metadata })
    }
  }
}
