import { describe, expect, test } from 'vitest';
import { systemClock } from './clock.ts';
import { addProcessMetrics, createMetrics } from './metrics.ts';

describe('metrics', () => {
  test('counts by label, and shows nothing that was never counted', async () => {
    const metrics = createMetrics();
    const count = metrics.counter('things_total', 'Things');
    metrics.counter('others_total', 'Others');
    count({ kind: 'a' });
    count({ kind: 'a' }, 2);
    count({ kind: 'b "quoted"\n\\' });
    const text = await metrics.text();
    expect(text).toContain('# HELP things_total Things\n# TYPE things_total counter\n');
    expect(text).toContain('things_total{kind="a"} 3\n');
    expect(text).toContain('things_total{kind="b \\"quoted\\"\\n\\\\"} 1\n');
    expect(text).not.toContain('others_total');
  });

  test('a gauge is read when somebody asks; one that fails leaves the others there', async () => {
    const metrics = createMetrics();
    let value = 1;
    metrics.gauge('open', 'Open', async () => [{ labels: { state: 'x' }, value }, { value: 7 }]);
    metrics.gauge('broken', 'Broken', () => {
      throw new Error('the database is gone');
    });
    expect(await metrics.text()).toContain('open{state="x"} 1\nopen 7\n');
    value = 2;
    const text = await metrics.text();
    expect(text).toContain('open{state="x"} 2\n');
    expect(text).not.toContain('broken{');
    expect(text).toContain('stekker_metrics_failed 2\n');
  });

  test('durations fall into buckets that add up', async () => {
    const metrics = createMetrics();
    const note = metrics.durations('took_seconds', 'Took');
    for (const seconds of [0.001, 0.005, 0.2, 100]) note(seconds, { route: '/a' });
    const text = await metrics.text();
    expect(text).toContain('# TYPE took_seconds histogram\n');
    expect(text).toContain('took_seconds_bucket{route="/a",le="0.005"} 2\n');
    expect(text).toContain('took_seconds_bucket{route="/a",le="0.25"} 3\n');
    expect(text).toContain('took_seconds_bucket{route="/a",le="30"} 3\n');
    expect(text).toContain('took_seconds_bucket{route="/a",le="+Inf"} 4\n');
    expect(text).toContain('took_seconds_sum{route="/a"} 100.206\n');
    expect(text).toContain('took_seconds_count{route="/a"} 4\n');
  });

  test('a process tells its memory, its time and when it began', async () => {
    const metrics = createMetrics();
    addProcessMetrics(metrics, systemClock);
    const text = await metrics.text();
    const of = (name: string) => Number(new RegExp(`^${name} (.+)$`, 'm').exec(text)?.[1]);
    expect(of('process_resident_memory_bytes')).toBeGreaterThan(10_000_000);
    expect(of('process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(Math.abs(of('process_start_time_seconds') * 1_000 - systemClock.now())).toBeLessThan(600_000);
  });
});
