package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// linearInput is an operation on buckets. Contents are told apart by ETag; every
// put has a content of its own.
type linearInput struct {
	op     linearOp
	bucket string
	key    string
	etag   string      // of what is put
	match  string      // condition of a put: the ETag that must be there, * for none at all
	other  string      // fork made, snapshot made or read, source of a merge
	puts   []linearPut // of a commit
}

// linearOp names an operation.
type linearOp string

const (
	linPut      linearOp = "put"
	linGet      linearOp = "get"
	linDelete   linearOp = "delete"
	linList     linearOp = "list"
	linCommit   linearOp = "commit" // of several keys
	linFork     linearOp = "fork"
	linDrop     linearOp = "drop" // of a bucket
	linSnapshot linearOp = "snapshot"
	linReadAt   linearOp = "read-at" // of a key, in a snapshot
	linListAt   linearOp = "list-at" // of a snapshot
	linRestore  linearOp = "restore" // of a bucket, to a snapshot
	// A merge of the source, which wins, is two operations, each within the time of the merge: it
	// takes the source as it is at one LSN, which bears the name key from then on, and writes to the target.
	linTake  linearOp = "take"
	linMerge linearOp = "merge" // of other, as it was taken, into bucket
)

// reads reports whether the operation changes nothing.
func (op linearOp) reads() bool {
	return op == linGet || op == linList || op == linReadAt || op == linListAt
}

// linearPut is one of a commit's changes; without an ETag it deletes.
type linearPut struct{ key, etag string }

// linearOutput is the answer to an operation: a code of error or what was found.
type linearOutput struct {
	lost    bool // there was no answer: it was done, or not
	code    string
	etag    string
	listing contents
}

// contents are the ETags of a bucket's keys. Never changed once made.
type contents map[string]string

// with returns the contents after one change.
func (c contents) with(puts ...linearPut) contents {
	c = maps.Clone(c)
	for _, p := range puts {
		if p.etag == "" {
			delete(c, p.key)
		} else {
			c[p.key] = p.etag
		}
	}
	return c
}

// linearBucket is the state of a bucket. Never changed once made.
type linearBucket struct {
	root      bool
	now       contents
	snapshots map[string]contents
	// Of a fork: the keys that were changed, one by one, since it was made or merged the last time; how many
	// were before; what merges have taken and not written yet.
	changes []string
	merged  int
	taken   map[string]linearTaken
}

// linearTaken is what a merge has taken: the contents, after so many changes.
type linearTaken struct {
	contents contents
	changes  int
}

// write returns the bucket after changes. A deletion of nothing is none.
func (b linearBucket) write(puts ...linearPut) linearBucket {
	changes := slices.Clip(b.changes)
	for _, p := range puts {
		if b.root {
			break
		}
		if _, there := b.now[p.key]; there || p.etag != "" {
			changes = append(changes, p.key)
		}
	}
	b.now, b.changes = b.now.with(puts...), changes
	return b
}

// linearState is all buckets. Never changed once made.
type linearState map[string]linearBucket

func (s linearState) with(name string, b linearBucket) linearState {
	s = maps.Clone(s)
	s[name] = b
	return s
}

func equalStates(a, b linearState) bool {
	return maps.EqualFunc(a, b, func(x, y linearBucket) bool {
		return maps.Equal(x.now, y.now) && x.merged == y.merged && slices.Equal(x.changes, y.changes) &&
			maps.EqualFunc(x.snapshots, y.snapshots, func(x, y contents) bool { return maps.Equal(x, y) }) &&
			maps.EqualFunc(x.taken, y.taken, func(x, y linearTaken) bool { return x.changes == y.changes && maps.Equal(x.contents, y.contents) })
	})
}

// apply is what an operation does to the state, and its answer.
func (s linearState) apply(in linearInput) (linearState, linearOutput) {
	b, ok := s[in.bucket]
	if !ok {
		return s, linearOutput{code: "NoSuchBucket"}
	}
	switch in.op {
	case linGet:
		return s, found(b.now, in.key)
	case linList:
		return s, linearOutput{listing: b.now}
	case linPut:
		if code := b.refuses(in); code != "" {
			return s, linearOutput{code: code}
		}
		b = b.write(linearPut{in.key, in.etag})
	case linDelete:
		b = b.write(linearPut{key: in.key})
	case linCommit:
		if code := b.refuses(in); code != "" {
			return s, linearOutput{code: code}
		}
		b = b.write(in.puts...)
	case linFork:
		return s.with(in.other, linearBucket{now: b.now}), linearOutput{}
	case linDrop:
		s = maps.Clone(s)
		delete(s, in.bucket)
		return s, linearOutput{}
	case linSnapshot:
		b.snapshots = maps.Clone(b.snapshots)
		if b.snapshots == nil {
			b.snapshots = map[string]contents{}
		}
		b.snapshots[in.other] = b.now
	case linReadAt:
		return s, found(b.snapshots[in.other], in.key) // by a path: without the snapshot there is no key
	case linListAt:
		then, ok := b.snapshots[in.other]
		if !ok {
			return s, linearOutput{code: "NoSuchKey"}
		}
		return s, linearOutput{listing: then}
	case linRestore:
		then, ok := b.snapshots[in.other]
		if !ok {
			return s, linearOutput{code: "NoSuchSnapshot"}
		}
		b.now = then
	case linTake:
		b.taken = maps.Clone(b.taken)
		if b.taken == nil {
			b.taken = map[string]linearTaken{}
		}
		b.taken[in.key] = linearTaken{b.now, b.merged + len(b.changes)}
	case linMerge:
		return s.merge(in)
	default:
		panic("operation " + in.op)
	}
	return s.with(in.bucket, b), linearOutput{}
}

// refuses returns the code of a condition that does not hold.
func (b linearBucket) refuses(in linearInput) string {
	have, there := b.now[in.key]
	switch {
	case in.match == "", in.match == "*" && !there, in.match == have:
		return ""
	case in.match != "*" && !there && in.op == linPut:
		return "NoSuchKey"
	}
	return "PreconditionFailed"
}

func found(c contents, key string) linearOutput {
	if etag, ok := c[key]; ok {
		return linearOutput{etag: etag}
	}
	return linearOutput{code: "NoSuchKey"}
}

// merge writes to the target what a merge has taken of the source and no merge before it.
func (s linearState) merge(in linearInput) (linearState, linearOutput) {
	source, target := s[in.other], s[in.bucket]
	t, ok := source.taken[in.key]
	if !ok {
		return s, linearOutput{code: "nothing taken"}
	}
	source.taken = maps.Clone(source.taken)
	delete(source.taken, in.key)
	if n := t.changes - source.merged; n > 0 {
		for _, key := range source.changes[:n] {
			target = target.write(linearPut{key, t.contents[key]})
		}
		source.changes, source.merged = source.changes[n:], t.changes
	}
	return s.with(in.bucket, target).with(in.other, source), linearOutput{}
}

// linearModel is what the buckets of each family, told apart by the first letter of
// their names, do one operation at a time.
func linearModel() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			families := map[byte][]porcupine.Operation{}
			for _, o := range history {
				letter := o.Input.(linearInput).bucket[0]
				families[letter] = append(families[letter], o)
			}
			return slices.Collect(maps.Values(families))
		},
		Init: func() []any {
			return []any{linearState{"a": {root: true, now: contents{}}, "p": {root: true, now: contents{}}}}
		},
		Step: func(state, input, output any) []any {
			now, want := state.(linearState).apply(input.(linearInput))
			got := output.(linearOutput)
			switch {
			case got.lost:
				return []any{state, now}
			case got.code == want.code && got.etag == want.etag && maps.Equal(got.listing, want.listing):
				return []any{now}
			}
			return nil
		},
		Equal: func(a, b any) bool { return equalStates(a.(linearState), b.(linearState)) },
		DescribeOperation: func(input, output any) string {
			in, out := input.(linearInput), output.(linearOutput)
			var s strings.Builder
			fmt.Fprintf(&s, "%s %s", in.op, in.bucket)
			for _, part := range []string{in.key, in.etag, in.other} {
				if part != "" {
					fmt.Fprintf(&s, " %.8s", part)
				}
			}
			for _, p := range in.puts {
				fmt.Fprintf(&s, " %s=%.8s", p.key, p.etag)
			}
			if in.match != "" {
				fmt.Fprintf(&s, " if %.8s", in.match)
			}
			switch {
			case out.lost:
				s.WriteString(": no answer")
			case out.code != "":
				s.WriteString(": " + out.code)
			case out.listing != nil:
				fmt.Fprintf(&s, ": %v", out.listing)
			case out.etag != "":
				fmt.Fprintf(&s, ": %.8s", out.etag)
			}
			return s.String()
		},
	}
	return model.ToModel()
}
