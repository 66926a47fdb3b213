/** What the service answers, as far as the page reads it. `/docs` describes every field. No browser reads this file. */

export type StoredFile = {role: string, url: string, content_type: string, size_bytes: number, name: string | null};

export type Image = {url: string, original_url: string, index: number, seed: number, width: number, height: number,
  content_type: string, size_bytes: number, has_alpha: boolean, files: StoredFile[],
  quality: Record<string, any> | null, notes: string[], starred: boolean, rejected: boolean, rating: number};

export type Progress = {value: number | null, step: number, steps: number, image: number, images: number,
  stage: string | null};

export type JobError = {code: string, title: string, detail: string, retryable: boolean};

export type Status = "PENDING" | "STARTED" | "RETRY" | "SUCCESS" | "FAILURE" | "REVOKED";

export type Priority = "low" | "normal" | "high";

/** The body of POST /v1/generate. */
export type Order = Record<string, any>;

export type Job = {job_id: string, kind: "generate" | "derive" | "sheet", status: Status, images: Image[],
  created_at: string, started_at: string | null, completed_at: string | null,
  queue_position: number | null, eta_seconds: number | null, waiting_for: string | null,
  progress: Progress | null, error: JobError | null, request: Order,
  resolved: {prompt: string, negative_prompt: string, model_revision: string} | null,
  derived_from: string | null, batch_id: string | null, retry_of: string | null, priority: Priority, tags: string[],
  metadata: Record<string, any>, metrics: {queue_ms: number | null, execution_ms: number | null}};

export type ProgressEvent = {job_id: string, status: Status, progress: Progress | null, queue_position: number | null,
  eta_seconds: number | null, waiting_for: string | null};

export type JobList = {next: string | null, previous: string | null, results: Job[]};

export type Estimate = {request: Order, notes: string[], estimated_seconds: number | null, possible: boolean,
  reason: string | null};

export type Style = {style_id: string, title: string, description: string, default: boolean, drawable: boolean,
  models: string[], template: string, effects: Effect[]};

export type Model = {name: string, title: string, active: boolean, served: boolean, native_size: [number, number],
  sizes: [number, number][] | null, side: {min: number, max: number, multiple: number} | null,
  max_steps: number, schedulers: string[]};

export type Effect = Record<string, any> & {op: string};

export type EffectKind = {op: string, title: string, example: Effect, schema: Schema};

export type Schema = {type?: string | string[], enum?: any[], const?: any, anyOf?: Schema[], $ref?: string,
  properties?: Record<string, Schema>, required?: string[], items?: Schema, default?: any,
  minimum?: number, maximum?: number, exclusiveMinimum?: number, pattern?: string, title?: string,
  description?: string, maxLength?: number};

export type Capabilities = {version: string, model: string, dashboard: string | null, features: string[], schedulers: string[],
  limits: {images: number, pixels: number, prompt_chars: number, upload_bytes: number, seed: number}};

export type Inspected = {format: string, width: number, height: number, recipe: {program: string, seed: number | null, record: Record<string, any>} | null,
  order: Order | null, notes: string[]};

export type Catalog = {styles: Style[], models: Model[], effects: EffectKind[], palettes: string[], loras: string[],
  capabilities: Capabilities, order: Schema, sheet: Schema};

/** What many jobs are together. */
export type Batch = {batch_id: string, name: string | null, status: Status, size: number,
  counts: Record<Status | "DELETED", number>, progress: {value: number, done: number, total: number},
  eta_seconds: number | null, reused: {count: number}, failed: {row: number, detail: string}[]};
