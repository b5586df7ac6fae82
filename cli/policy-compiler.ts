import {
  type Aliases,
  admitDocuments,
  admitRemoval,
  buildSnapshot,
  type Deployment,
  documentFromJson,
  documentToJson,
  type Layout,
  localAppOf,
  type PolicyDocument,
  parseDocuments,
  snapshotContentKey,
} from '../policies/index.js'
import type { AdmittedDocument, DocumentRef, PolicyCompiler } from '../sentry/policy/compiler.js'
import { parseTrustDomain, type TrustDomain } from '../spiffe/index.js'
import { CliError } from './errors.js'

export interface PolicyCompilerOptions {
  readonly trustDomain: TrustDomain
  readonly layout: Layout
  /** Names for several trust domains that policies may use as one. */
  readonly aliases?: Readonly<Record<string, readonly string[]>>
  /** Milliseconds since 1970; tests of policies are held against this moment. */
  readonly now?: () => number
}

/** The policy language as the sentry needs it. */
export function policyCompiler(options: PolicyCompilerOptions): PolicyCompiler {
  const { trustDomain, layout, now = Date.now } = options
  const deployment: Deployment = { trustDomain, layout, aliases: groupsOf(options) }
  const read = documentReader()
  const content = ({ target, documents }: Parameters<PolicyCompiler['contentKey']>[0]) => ({
    ...deployment,
    target,
    documents: documents.map(read),
  })
  return {
    admit({ text, source, existing }) {
      const documents = parseDocuments(text, source)
      const admitted = admitDocuments({
        ...deployment,
        documents,
        existing: existing.map(read),
        now: now(),
      })
      return admitted.map((document) => ({
        ref: documentRef(document),
        json: documentToJson(document),
      }))
    },
    admitRemoval: ({ removed, existing }) =>
      admitRemoval({
        ...deployment,
        removed: removed.map(read),
        existing: existing.map(read),
        now: now(),
      }),
    keysOfDocument: (document) => keysOf(read(document)),
    keysOfTarget(target) {
      const app = localAppOf(target, { layout, trustDomain })
      if (app === undefined) return [MESH]
      return [MESH, namespaceKey(app.namespace), appKey(app.namespace, app.app)]
    },
    contentKey: (request) => snapshotContentKey(content(request)),
    snapshot: (request) =>
      buildSnapshot({ ...content(request), generation: Number(request.generation) }),
  }
}

/** What names a document on the wire. */
export function documentRef(document: PolicyDocument): DocumentRef {
  const { kind, name } = document
  return { kind, namespace: kind === 'Guardrail' ? '' : document.namespace, name }
}

const MESH = 'mesh'
const namespaceKey = (namespace: string) => `namespace ${namespace}`
const appKey = (namespace: string, app: string) => `app ${namespace}/${app}`

function keysOf(document: PolicyDocument): readonly string[] {
  switch (document.kind) {
    case 'AccessPolicy': {
      const { namespace, app } = document
      return [app === undefined ? namespaceKey(namespace) : appKey(namespace, app)]
    }
    case 'Guardrail': {
      const { reach } = document
      if (reach.kind === 'mesh') return [MESH]
      return [
        reach.kind === 'app' ? appKey(reach.namespace, reach.app) : namespaceKey(reach.namespace),
      ]
    }
    case 'PolicyTest':
      return []
  }
}

/** A group that stands for nobody, or takes the place of our own trust domain, would unmake rules that deny. */
function groupsOf({ aliases = {}, trustDomain }: PolicyCompilerOptions): Aliases {
  return new Map(
    Object.entries(aliases).map(([name, members]) => {
      if (parseTrustDomain(name) === trustDomain) {
        throw invalidGroup(name, 'has the name of our own trust domain')
      }
      if (members.length === 0) throw invalidGroup(name, 'has no members')
      return [name, members.map(parseTrustDomain)]
    }),
  )
}

const invalidGroup = (name: string, what: string) =>
  new CliError('CS_CONFIG_INVALID', `policy.trust_domain_groups: ${name} ${what}`)

/** Reads each stored document once: a change of one policy asks for all of those beside it again. */
function documentReader(): (document: AdmittedDocument) => PolicyDocument {
  const known = new WeakMap<AdmittedDocument, PolicyDocument>()
  return (document) => {
    const held = known.get(document)
    if (held !== undefined) return held
    const read = documentFromJson(document.json)
    known.set(document, read)
    return read
  }
}
