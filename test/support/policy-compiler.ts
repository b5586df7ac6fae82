import { createHash } from 'node:crypto'
import type { AdmittedDocument, PolicyCompiler } from '../../sentry/policy/compiler.js'
import { pathOf } from '../../spiffe/index.js'

/**
 * A policy language of one line per document, `<name> <app> <text>`: the app is the last segment of the
 * target's path, `*` is every app. Lines that start with `!` are refused. What stays and says `needs
 * <name>` does not let go of the document of that name.
 */
export function lineCompiler(): PolicyCompiler {
  const partsOf = ({ json }: AdmittedDocument) => JSON.parse(json) as { app: string; text: string }
  return {
    admit: ({ text }) =>
      text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => {
          if (line.startsWith('!')) throw new RefusedLine(`line "${line}" is refused`)
          const [name = '', app = '', ...words] = line.split(' ')
          return {
            ref: { kind: 'AccessPolicy', namespace: 'shop', name },
            json: JSON.stringify({ app, text: words.join(' ') }),
          }
        }),
    admitRemoval({ removed, existing }) {
      const gone = new Set(removed.map(({ ref }) => ref.name))
      for (const document of existing.filter(({ ref }) => !gone.has(ref.name))) {
        const [, needed = ''] = /^needs (.*)/.exec(partsOf(document).text) ?? []
        if (gone.has(needed)) throw new RefusedLine(`${document.ref.name} needs ${needed}`)
      }
    },
    keysOfDocument: (document) => [partsOf(document).app],
    keysOfTarget: (target) => ['*', pathOf(target).split('/').at(-1) ?? ''],
    contentKey: ({ target, documents }) =>
      [target, ...documents.map(({ json }) => json)].join('\n'),
    snapshot({ target, documents, generation }) {
      const policies = documents.map((document) => partsOf(document).text)
      const bytes = Buffer.from(
        JSON.stringify({ generation: String(generation), policies, target }),
      )
      return { bytes, id: createHash('sha256').update(bytes).digest('hex') }
    },
  }
}

class RefusedLine extends Error {
  readonly code = 'CS_POLICY_INVALID'
}
