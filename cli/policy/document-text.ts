import { stringify } from 'yaml'
import type { PolicyDocument } from '../../policies/index.js'

/** The order in which people write the fields of a document. */
const ORDER =
  'apiVersion kind metadata name namespace spec target app mesh ports mode action from to notBefore expires reason rules cases'
const places = new Map(ORDER.split(' ').map((name, at) => [name, at]))
const placeOf = (name: string) => places.get(name) ?? places.size

/** A document as YAML, from its canonical JSON, without what goes without saying. */
export function yamlOf(json: string): string {
  const document: unknown = JSON.parse(json, (name, value: unknown) =>
    name === 'mode' && value === 'enforce' ? undefined : value,
  )
  return stringify(document, {
    sortMapEntries: ({ key: left }, { key: right }) =>
      placeOf(String(left)) - placeOf(String(right)),
    lineWidth: 100,
  })
}

/** What a document is about, in a few words. */
export function targetText(document: PolicyDocument): string {
  switch (document.kind) {
    case 'AccessPolicy':
      return withPorts(document.app ?? `every app of ${document.namespace}`, document.ports)
    case 'Guardrail': {
      const { reach, ports } = document
      if (reach.kind === 'mesh') return withPorts('the mesh', ports)
      return withPorts(
        reach.kind === 'app'
          ? `${reach.namespace}/${reach.app}`
          : `every app of ${reach.namespace}`,
        ports,
      )
    }
    case 'PolicyTest':
      return [...new Set(document.cases.map(({ app }) => app))].join(', ')
  }
}

/** `3 rules`, `3 rules in shadow`, `4 cases`. */
export function contentText(document: PolicyDocument): string {
  if (document.kind === 'PolicyTest') return countText(document.cases.length, 'case')
  const rules = countText(document.rules.length, 'rule')
  return document.mode === 'shadow' ? `${rules} in shadow` : rules
}

export const countText = (count: number, noun: string) =>
  `${count} ${noun}${count === 1 ? '' : 's'}`

const withPorts = (text: string, ports: readonly number[] | undefined) =>
  ports === undefined ? text : `${text}, port ${ports.join(', ')}`
