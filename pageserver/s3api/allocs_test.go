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

// Writing a page of keys allocates no more than the page, however many keys it has.
func TestListXMLAllocations(t *testing.T) {
	const most = 2
	l, res := listing{}, pageOfKeys()
	var buf []byte
	if n := testing.AllocsPerRun(100, func() {
		w := l.begin(buf[:0], "bucket", "")
		if err := l.finish(w, res, nil); err != nil {
			t.Fatal(err)
		}
		buf = w.bytes()
	}); n > most {
		t.Errorf("a page of %d keys allocates %v times, at most %d are agreed", len(res.Entries), n, most)
	}
}
