//go:build !race

package s3api

import "testing"

// requestAllocations is how often the server may allocate for a signed request,
// of BenchmarkRequest; a page of 1,000 keys allocates each key once.
var requestAllocations = map[string]float64{"get": 20, "head": 23, "put": 28, "list": 1070, "delimiter": 75}

func TestRequestAllocations(t *testing.T) {
	s := newServer(t)
	for name, c := range benchmarkCalls(s) {
		client, request := s.newWireClient(t), s.wire(t, c)
		do := func() { client.do(t, request, c.method == "HEAD") }
		do() // fills pools and caches
		if n := testing.AllocsPerRun(200, do); n > requestAllocations[name] {
			t.Errorf("%s allocates %v times, at most %v are agreed", name, n, requestAllocations[name])
		}
	}
}
