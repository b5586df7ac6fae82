import { canonicalJson, type Json } from './canonical-json.js'
import {
  API_VERSION,
  type Guardrail,
  type Operation,
  type PolicyDocument,
  type Rule,
  type Selector,
  type TestCase,
} from './policy.js'

/** A document as canonical JSON, which `documentFromJson` reads back to an equal document. */
export function documentToJson(document: PolicyDocument): string {
  return canonicalJson({ apiVersion: API_VERSION, kind: document.kind, ...bodyOf(document) })
}

/** An operation as documents and snapshots spell it. */
export function operationJson(operation: Operation): Json {
  switch (operation.kind) {
    case 'http':
      return { methods: operation.methods, paths: operation.paths }
    case 'grpc':
      return { grpc: operation.methods }
    case 'tcp':
      return { tcp: true }
  }
}

export function timeJson(at: number | undefined): string | undefined {
  return at === undefined ? undefined : new Date(at).toISOString()
}

function bodyOf(document: PolicyDocument): { readonly metadata: Json; readonly spec: Json } {
  const { name } = document
  switch (document.kind) {
    case 'AccessPolicy': {
      const { namespace, app, ports, mode, rules } = document
      const target = { ...(app === undefined ? { namespace: true } : { app }), ports }
      return { metadata: { name, namespace }, spec: { target, mode, rules: rules.map(ruleJson) } }
    }
    case 'Guardrail': {
      const { ports, mode, rules } = document
      const target = { ...reachJson(document), ports }
      return { metadata: { name }, spec: { target, mode, rules: rules.map(ruleJson) } }
    }
    case 'PolicyTest': {
      const { namespace, cases } = document
      return { metadata: { name, namespace }, spec: { cases: cases.map(caseJson) } }
    }
  }
}

function reachJson({ reach }: Guardrail): { readonly [name: string]: Json } {
  switch (reach.kind) {
    case 'mesh':
      return { mesh: true }
    case 'namespace':
      return { namespace: reach.namespace }
    case 'app':
      return { namespace: reach.namespace, app: reach.app }
  }
}

function ruleJson({ name, action, mode, from, to, notBefore, expires, reason }: Rule): Json {
  return {
    name,
    action,
    mode,
    from: from.map(selectorJson),
    to: to?.map(operationJson),
    notBefore: timeJson(notBefore),
    expires: timeJson(expires),
    reason,
  }
}

function selectorJson(selector: Selector): Json {
  switch (selector.kind) {
    case 'app': {
      const { app, namespace, trustDomain } = selector
      return { app, namespace, trustDomain }
    }
    case 'namespace':
      return { namespace: selector.namespace, trustDomain: selector.trustDomain }
    case 'trustDomain':
      return { trustDomain: selector.trustDomain }
    case 'spiffeId':
      return { spiffeId: selector.pattern }
    case 'any':
      return { any: true }
    case 'unauthenticated':
      return { unauthenticated: true }
  }
}

function caseJson({ from, app, port, call, expect, rule }: TestCase): Json {
  switch (call.kind) {
    case 'http':
      return { from, to: { app, port, method: call.method, path: call.path }, expect, rule }
    case 'grpc':
      return { from, to: { app, port, grpc: call.method }, expect, rule }
    case 'tcp':
      return { from, to: { app, port, tcp: true }, expect, rule }
  }
}
