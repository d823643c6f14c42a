package object

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"stemma/timeline"
)

func TestGrants(t *testing.T) {
	owner, user, nobody := ACLCaller{ID: "o", Owner: true}, ACLCaller{ID: "u"}, ACLCaller{}
	quiet := ACLCaller{ID: "u", IgnorePublic: true}
	for _, c := range []struct {
		acl  ACL
		who  ACLCaller
		perm Permission
		want bool
	}{
		{nil, owner, PermRead, true}, {nil, user, PermRead, false}, {nil, nobody, PermRead, false},
		{ACL{}, owner, PermRead, false},
		{ACL{{Kind: GranteeOwner, Permission: PermFullControl}}, owner, PermWriteACP, true},
		{ACL{{Kind: GranteeOwner, Permission: PermFullControl}}, user, PermRead, false},
		{ACL{{Kind: GranteeUser, ID: "u", Permission: PermRead}}, user, PermRead, true},
		{ACL{{Kind: GranteeUser, ID: "u", Permission: PermRead}}, user, PermWrite, false},
		{ACL{{Kind: GranteeUser, ID: "v", Permission: PermRead}}, user, PermRead, false},
		{ACL{{Kind: GranteeUser, Permission: PermRead}}, nobody, PermRead, false},
		{ACL{{Kind: GranteeAll, Permission: PermRead}}, nobody, PermRead, true},
		{ACL{{Kind: GranteeAll, Permission: PermFullControl}}, user, PermWriteACP, true},
		{ACL{{Kind: GranteeAll, Permission: PermRead}}, quiet, PermRead, false},
		{ACL{{Kind: GranteeAuthenticated, Permission: PermRead}}, user, PermRead, true},
		{ACL{{Kind: GranteeAuthenticated, Permission: PermRead}}, nobody, PermRead, false},
		{ACL{{Kind: GranteeAuthenticated, Permission: PermRead}}, quiet, PermRead, false},
		{ACL{{Kind: GranteeLogDelivery, Permission: PermWrite}}, user, PermWrite, false},
	} {
		if got := c.acl.Grants(c.who, c.perm); got != c.want {
			t.Errorf("%+v grants %+v %v: %v", c.acl, c.who, c.perm, got)
		}
	}
	plain := ACL{{Kind: GranteeOwner, Permission: PermFullControl}}
	if !ACL(nil).Equal(plain) || !plain.Equal(nil) || plain.Equal(ACL{}) || ACL(nil).Public() || !plain.Private() {
		t.Error("the default ACL is not like its meaning")
	}
}

// An ACL changes, and the version that has it stays; listings tell of owners that are
// not the bucket's, and forks inherit both.
func TestSetAccess(t *testing.T) {
	h := start(t)
	for _, size := range []int64{5, 100_000} {
		put := &PutInput{Body: strings.NewReader(strings.Repeat("x", int(size))), Size: size, Access: Access{Owner: "somebody"}}
		e, err := h.Put(h.ctx, "home", "k", put)
		if err != nil {
			t.Fatal(err)
		}
		want := Access{Owner: "somebody", ACL: ACL{{Kind: GranteeUser, ID: "x", Permission: PermRead}}}
		set := func(_ *Settings, v *Entry) (Access, error) {
			have := v.Access
			have.ACL = want.ACL
			return have, nil
		}
		o, err := h.SetAccess(h.ctx, "home", "k", 0, set)
		if err != nil || o.LSN != e.LSN || o.At <= e.LSN || !reflect.DeepEqual(o.Access, want) {
			t.Fatalf("%+v, %v", o, err)
		}
		if _, err := h.Fork(h.ctx, "home", 0, []string{"fork"}); err != nil && size == 5 {
			t.Fatal(err)
		}
		for _, bucket := range []string{"home", "fork"} {
			if o, err := h.Head(h.ctx, bucket, "k", &GetInput{}); err != nil || o.LSN != e.LSN && bucket == "home" || !reflect.DeepEqual(o.Access, want) {
				t.Fatalf("%+v, %v", o, err)
			}
			list, err := h.List(h.ctx, bucket, &ListInput{Prefix: "k", MaxKeys: 1})
			if err != nil || list.Entries[0].Owner != "somebody" {
				t.Fatalf("listed %+v, %v", list, err)
			}
		}
		if o, err := h.Head(h.ctx, "home", "k", &GetInput{At: e.LSN}); err != nil || o.ACL != nil {
			t.Fatalf("at the put: %+v, %v", o, err)
		}
	}
	refused := errors.New("no")
	if _, err := h.SetAccess(h.ctx, "home", "k", 0, func(*Settings, *Entry) (Access, error) { return Access{}, refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	if _, err := h.Get(h.ctx, "home", "k", &GetInput{Allow: func(e *Entry) error {
		if e.Owner != "somebody" {
			t.Errorf("%+v", e)
		}
		return refused
	}}); err != refused {
		t.Error(err)
	}
}

// Buckets have attributes of their own, and a fork those that it is given.
func TestAttributes(t *testing.T) {
	h := start(t)
	ann := Attributes{Owner: "ann"}
	info, err := h.CreateBucketWith(h.ctx, "anns", nil, ann)
	if err != nil {
		t.Fatal(err)
	}
	forks, err := h.ForkWith(h.ctx, "anns", 0, []string{"bobs"}, Attributes{Owner: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	home, err := h.Bucket("home", 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again from the cache
		for info, want := range map[*timeline.Info]string{&info: "ann", &forks[0]: "bob", &home: ""} {
			if a, err := h.Attributes(info); err != nil || a.Owner != want {
				t.Errorf("%+v, %v, want %q", a, err, want)
			}
		}
	}
	info.Attrs = []byte{9}
	if _, err := h.Attributes(&info); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func FuzzACL(f *testing.F) {
	f.Add(ACL{{Kind: GranteeOwner, Permission: PermFullControl}, {Kind: GranteeUser, ID: "x", Permission: PermRead}}.append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		a, err := decodeACL(p)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Error(err)
			}
			return
		}
		if again := a.append(nil); !bytes.Equal(again, p) && len(p) > 0 {
			t.Errorf("% x encodes as % x", p, again)
		}
	})
}

func FuzzAttributes(f *testing.F) {
	f.Add((&Attributes{Owner: "x"}).encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		a, err := decodeAttributes(p)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Error(err)
			}
			return
		}
		if again, err := decodeAttributes(a.encode()); err != nil || !reflect.DeepEqual(again, a) {
			t.Errorf("%+v, then %+v, %v", a, again, err)
		}
	})
}
