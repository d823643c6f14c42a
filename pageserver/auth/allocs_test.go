//go:build !race

package auth

import "testing"

// verifyAllocations is how often the check of a signature may allocate.
const verifyAllocations = 4

func TestVerifyAllocations(t *testing.T) {
	h, target := parse(t, exampleRequests["get"])
	v := exampleVerifier(exampleTime)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := v.Verify(h, target); err != nil {
			t.Fatal(err)
		}
	}); n > verifyAllocations {
		t.Errorf("the check of a signature allocates %v times, at most %d are agreed", n, verifyAllocations)
	}
}
