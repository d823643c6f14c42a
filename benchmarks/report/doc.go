// Package report turns measurements into rows, and rows into a table and JSON.
// Command benchmarks/page makes a page with plots of the JSON.
//
// A Row is one figure: a rate or another number, with its spread over the rounds,
// the limit that was measured beside it, and the latencies. A Report is rows with
// the machine that they were measured on. Ratio compares two series of rounds.
//
// # JSON, schema 1
//
// An object with "schema": "stemma-bench", "version": 1, "machine", "rows" and
// "comparisons". Rates are in the row's unit; latencies are microseconds. Fields
// are only ever added within a version. testdata/report.json shows all of them.
package report
