package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"stemma/layers"
	"stemma/pageserver/auth"
	"stemma/pageserver/keyring"
	"stemma/pageserver/policy"
	"stemma/timeline"
	"stemma/wal/storefs"
)

var (
	rootKey = auth.Key{ID: "root-key", Secret: "root-secret", Root: true}
	ring    = func() *keyring.Ring {
		r, err := keyring.New(keyring.NewKey("k"))
		if err != nil {
			panic(err)
		}
		return r
	}()
)

// harness is a directory over a store in memory, with a clock that stands still.
type harness struct {
	*Directory
	t     *testing.T
	store *timeline.Store
	now   time.Time
}

func start(t *testing.T) *harness {
	t.Helper()
	store, err := timeline.Open(timeline.Options{FS: storefs.NewMem(), Dir: "data", WALSegmentBytes: 1 << 20, HorizonEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &harness{t: t, store: store, now: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)}
	h.reopen()
	return h
}

// reopen reads everything anew from the store.
func (h *harness) reopen() {
	h.t.Helper()
	d, err := Open(h.t.Context(), Options{Store: h.store, Ring: ring, Root: rootKey, Now: func() time.Time { return h.now }})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Directory = d
}

func (h *harness) user(n NewUser) User {
	h.t.Helper()
	u, err := h.CreateUser(h.t.Context(), n)
	if err != nil {
		h.t.Fatal(err)
	}
	return u
}

func (h *harness) key(n NewKey) auth.Key {
	h.t.Helper()
	k, secret, err := h.CreateKey(h.t.Context(), n)
	if err != nil {
		h.t.Fatal(err)
	}
	return auth.Key{ID: k.ID, Secret: secret}
}

func (h *harness) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) fails(err, want error) {
	h.t.Helper()
	if !errors.Is(err, want) {
		h.t.Errorf("error %v, want %v", err, want)
	}
}

// caller returns who a key belongs to.
func (h *harness) caller(id string) *auth.Caller {
	h.t.Helper()
	k, ok := h.Key(id)
	if !ok {
		h.t.Fatalf("no key %q", id)
	}
	return k.CallerOf()
}

func TestUsersAndKeysSurviveARestart(t *testing.T) {
	h := start(t)
	ctx := t.Context()
	if k, ok := h.Key(rootKey.ID); !ok || !k.CallerOf().Root {
		t.Error("no root key")
	}
	if len(h.store.Buckets("", "", 10)) != 0 {
		t.Error("a bucket was made for nothing")
	}
	ann := h.user(NewUser{Name: "ann", ID: "testid", DisplayName: "M. Tester", Email: "Ann@example.com", Owner: true})
	h.user(NewUser{Name: "bob", Attach: []string{"readonly", "readonly"}})
	h.key(NewKey{User: "ann", ID: "AKANN", Secret: "secret-of-ann"})
	bobs := h.key(NewKey{User: "bob", Description: "laptop", Expires: h.now.Add(time.Hour)})
	h.ok(h.PutInline(ctx, "bob", Inline{Name: "more", Document: canned["admin"].document, Reach: auth.ReachAll}))
	for range 2 {
		k, ok := h.Key("AKANN")
		if !ok || k.Secret != "secret-of-ann" || k.Root {
			t.Fatalf("key %+v", k)
		}
		c := k.CallerOf()
		if c.ID != "testid" || c.DisplayName != "M. Tester" || c.Name != "ann" || !c.Owner || c.Unique != ann.Unique ||
			c.ARN != "arn:aws:iam::"+auth.AccountNumber("testid")+":user/ann" {
			t.Errorf("caller %+v", c)
		}
		if name, ok := h.DisplayName("testid"); !ok || name != "M. Tester" {
			t.Errorf("display name %q", name)
		}
		if id, ok := h.AccountByEmail("ann@EXAMPLE.com"); !ok || id != "testid" {
			t.Errorf("by email %q", id)
		}
		if c := h.caller(bobs.ID); len(c.Grants) != 2 || c.Owner || c.Grants[0].Reach != auth.ReachAll || c.Grants[1].Reach != auth.ReachRoot {
			t.Errorf("caller %+v", c)
		}
		h.reopen()
	}
	if users := h.Users("", "/", "", 10); len(users) != 2 || users[0].Name != "ann" || users[1].Name != "bob" {
		t.Errorf("users %+v", users)
	}
	if users := h.Users("", "/", "ann", 10); len(users) != 1 {
		t.Errorf("users %+v", users)
	}
	h.now = h.now.Add(time.Hour)
	if _, ok := h.Key(bobs.ID); ok {
		t.Error("an expired key may be used")
	}
}

func TestSecretsAreSealed(t *testing.T) {
	h := start(t)
	h.user(NewUser{Name: "ann", Owner: true})
	h.key(NewKey{User: "ann", ID: "AKANN", Secret: "secret-of-ann"})
	v, err := h.store.View(t.Context(), Bucket, 0)
	h.ok(err)
	defer v.Close()
	rec, err := v.Get(layers.NamespaceConfig, []byte("key/AKANN"))
	h.ok(err)
	if strings.Contains(string(rec.Meta), "secret-of-ann") {
		t.Errorf("record %s", rec.Meta)
	}
	other, err := keyring.New(keyring.NewKey("k"))
	h.ok(err)
	_, err = Open(t.Context(), Options{Store: h.store, Ring: other, Root: rootKey})
	h.fails(err, keyring.ErrSealed)
	another, err := keyring.New(keyring.NewKey("z"))
	h.ok(err)
	_, err = Open(t.Context(), Options{Store: h.store, Ring: another, Root: rootKey})
	h.fails(err, keyring.ErrNoKey)
}

func TestUserChanges(t *testing.T) {
	h := start(t)
	ctx := t.Context()
	h.user(NewUser{Name: "ann", ID: "a", Email: "a@x", Owner: true})
	key := h.key(NewKey{User: "a"})
	for name, n := range map[string]NewUser{
		"name": {Name: "ann"}, "id": {Name: "b", ID: "a"}, "email": {Name: "b", Email: "A@X"}, "root": {Name: "b", ID: auth.RootID},
	} {
		if _, err := h.CreateUser(ctx, n); !errors.Is(err, ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, n := range map[string]NewUser{
		"no name": {}, "bad name": {Name: "a b"}, "long name": {Name: strings.Repeat("a", 65)}, "bad id": {Name: "b", ID: "a/b"}, "long id": {Name: "b", ID: strings.Repeat("a", 129)},
		"display": {Name: "b", DisplayName: "a\x00"}, "email": {Name: "b", Email: "x"}, "path": {Name: "b", Path: "x"}, "owner": {Name: "b", Account: "a", Owner: true},
		"two ids": {Name: "b", Account: "a", ID: "b"},
	} {
		if _, err := h.CreateUser(ctx, n); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := h.CreateUser(ctx, NewUser{Name: "b", Attach: []string{"none"}})
	h.fails(err, ErrNoSuchPolicy)
	_, err = h.CreateUser(ctx, NewUser{Name: "b", Account: "none"})
	h.fails(err, ErrNoSuchUser)

	display, email, off := "Ann", "b@x", false
	h.ok(h.UpdateUser(ctx, "a", UserChange{DisplayName: &display, Email: &email, Owner: &off}))
	if c := h.caller(key.ID); c.DisplayName != "Ann" || c.Owner {
		t.Errorf("caller %+v", c)
	}
	if _, ok := h.AccountByEmail("a@x"); ok {
		t.Error("the old address leads somewhere")
	}
	h.fails(h.UpdateUser(ctx, "none", UserChange{}), ErrNoSuchUser)

	member := h.user(NewUser{Name: "mem", Account: "a"})
	if c := h.caller(h.key(NewKey{User: "mem"}).ID); c.ID != "a" || c.DisplayName != "Ann" || c.Owner || !c.Principal.Delegated || member.ID != "a" {
		t.Errorf("caller %+v", c)
	}
	if list := h.Users("a", "/", "", 10); len(list) != 2 {
		t.Errorf("users %+v", list)
	}
	h.fails(h.DeleteUser(ctx, "ann", true), ErrInUse)
	h.fails(h.DeleteUser(ctx, "mem", false), ErrInUse)
	h.ok(h.DeleteUser(ctx, "mem", true))
	h.fails(h.DeleteUser(ctx, "ann", false), ErrInUse)
	h.ok(h.DeleteUser(ctx, "a", true))
	for range 2 {
		if _, ok := h.Key(key.ID); ok {
			t.Error("the key of a deleted user may be used")
		}
		if len(h.AllKeys())+len(h.Users("", "/", "", 10)) != 0 {
			t.Error("something is left")
		}
		h.reopen()
	}
	h.fails(h.DeleteUser(ctx, "ann", true), ErrNoSuchUser)
	h.user(NewUser{Name: "ann", ID: "a"})
}

func TestPolicies(t *testing.T) {
	h := start(t)
	ctx := t.Context()
	h.user(NewUser{Name: "ann"})
	key := h.key(NewKey{User: "ann"})
	allows := func(action string) bool {
		h.t.Helper()
		for _, g := range h.caller(key.ID).Grants {
			if g.Policy.Evaluate(&policy.Request{Action: action, Resource: "arn:aws:s3:::b/k"}) == policy.Allow {
				return true
			}
		}
		return false
	}
	doc := func(action string) string {
		return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":%q,"Resource":"*"}]}`, action)
	}
	if allows("s3:GetObject") {
		t.Error("a user without policies may do something")
	}
	p, err := h.CreatePolicy(ctx, Policy{Name: "getters", Document: doc("s3:GetObject")})
	h.ok(err)
	h.ok(h.Attach(ctx, "ann", p.ARN()))
	h.ok(h.Attach(ctx, "ann", "getters"))
	if !allows("s3:GetObject") || allows("s3:PutObject") {
		t.Error("attached")
	}
	h.ok(h.UpdatePolicy(ctx, "getters", doc("s3:PutObject"), nil))
	if allows("s3:GetObject") || !allows("s3:PutObject") {
		t.Error("updated")
	}
	h.reopen()
	if allows("s3:GetObject") || !allows("s3:PutObject") {
		t.Error("updated, reopened")
	}
	h.fails(h.DeletePolicy(ctx, "getters", false), ErrInUse)
	h.ok(h.DeletePolicy(ctx, "getters", true))
	if allows("s3:PutObject") {
		t.Error("deleted")
	}
	h.ok(h.Attach(ctx, "ann", "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"))
	if !allows("s3:GetObject") || allows("s3:PutObject") {
		t.Error("readonly")
	}
	h.ok(h.Detach(ctx, "ann", "readonly"))
	h.fails(h.Detach(ctx, "ann", "readonly"), ErrNoSuchPolicy)
	h.fails(h.Attach(ctx, "ann", "arn:aws:s3:::readonly"), ErrNoSuchPolicy)
	h.fails(h.DeletePolicy(ctx, "readonly", true), ErrInvalid)
	h.fails(h.UpdatePolicy(ctx, "readonly", doc("s3:*"), nil), ErrInvalid)
	_, err = h.CreatePolicy(ctx, Policy{Name: "readonly", Document: doc("s3:*")})
	h.fails(err, ErrExists)
	_, err = h.CreatePolicy(ctx, Policy{Name: "a/b", Document: doc("s3:*")})
	h.fails(err, ErrInvalid)
	if _, err = h.CreatePolicy(ctx, Policy{Name: "b", Document: "{}"}); !errors.As(err, new(*policy.Error)) {
		t.Errorf("error %v", err)
	}

	h.ok(h.PutInline(ctx, "ann", Inline{Name: "in", Document: doc("s3:ListBucket"), Reach: auth.ReachAll}))
	h.ok(h.PutInline(ctx, "ann", Inline{Name: "in", Document: doc("s3:GetObject"), Reach: auth.ReachAll}))
	if u, err := h.User("ann"); err != nil || len(u.Inline) != 1 || !allows("s3:GetObject") || allows("s3:ListBucket") {
		t.Errorf("user %+v, %v", u, err)
	}
	for i := range MaxUserPolicies - 1 {
		h.ok(h.PutInline(ctx, "ann", Inline{Name: fmt.Sprint(i), Document: doc("s3:GetObject")}))
	}
	h.fails(h.PutInline(ctx, "ann", Inline{Name: "x", Document: doc("s3:GetObject")}), ErrTooMany)
	h.ok(h.DeleteInline(ctx, "ann", "in"))
	h.fails(h.DeleteInline(ctx, "ann", "in"), ErrNoSuchPolicy)
	if len(h.Policies()) != len(canned) {
		t.Errorf("policies %+v", h.Policies())
	}
	h.user(NewUser{Name: "root-member", Account: auth.RootID, Attach: []string{"readwrite"}})
	h.user(NewUser{Name: "ann-member", Account: mustID(h, "ann"), Attach: []string{"readwrite"}})
	h.ok(h.PutInline(ctx, "ann-member", Inline{Name: "x", Document: doc("s3:*"), Reach: auth.ReachAll}))
	for name, want := range map[string]auth.Reach{"root-member": auth.ReachRoot, "ann-member": auth.ReachAccount} {
		for _, g := range h.caller(h.key(NewKey{User: name}).ID).Grants {
			if g.Reach != want {
				t.Errorf("%s: reach %d, want %d", name, g.Reach, want)
			}
		}
	}
}

func mustID(h *harness, name string) string {
	h.t.Helper()
	u, err := h.User(name)
	h.ok(err)
	return u.ID
}

func TestKeys(t *testing.T) {
	h := start(t)
	ctx := t.Context()
	h.user(NewUser{Name: "ann", Owner: true})
	for name, n := range map[string]NewKey{
		"half": {User: "ann", ID: "abc"}, "other half": {User: "ann", Secret: "long enough"}, "short": {User: "ann", ID: "abc", Secret: "x"},
		"nobody's": {}, "no buckets": {Scope: []auth.BucketRole{}}, "twice": {Scope: []auth.BucketRole{{Bucket: 1}, {Bucket: 1}}},
		"description": {User: "ann", Description: "a\n"},
	} {
		if _, _, err := h.CreateKey(ctx, n); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := h.CreateKey(ctx, NewKey{User: "none"})
	h.fails(err, ErrNoSuchUser)
	k := h.key(NewKey{User: "ann", ID: "key", Secret: "secret-1"})
	_, _, err = h.CreateKey(ctx, NewKey{User: "ann", ID: "key", Secret: "secret-2"})
	h.fails(err, ErrExists)
	_, _, err = h.CreateKey(ctx, NewKey{User: "ann", ID: rootKey.ID, Secret: "secret-2"})
	h.fails(err, ErrExists)

	yes, no := true, false
	_, err = h.UpdateKey(ctx, k.ID, KeyChange{Inactive: &yes})
	h.ok(err)
	if _, ok := h.Key(k.ID); ok {
		t.Error("an inactive key may be used")
	}
	_, err = h.UpdateKey(ctx, k.ID, KeyChange{Inactive: &no})
	h.ok(err)
	secret, err := h.RotateKey(ctx, k.ID)
	h.ok(err)
	h.reopen()
	if got, ok := h.Key(k.ID); !ok || got.Secret != secret || secret == "secret-1" {
		t.Errorf("key %+v", got)
	}
	scoped := h.key(NewKey{Scope: []auth.BucketRole{{Bucket: 7, ReadOnly: true}}})
	if c := h.caller(scoped.ID); c.Root || c.ID != auth.RootID || len(c.Scope) != 1 || len(c.Grants) != 1 {
		t.Errorf("caller %+v", c)
	}
	admin := h.key(NewKey{Admin: true})
	if c := h.caller(admin.ID); !c.Root {
		t.Errorf("caller %+v", c)
	}
	if keys, err := h.Keys(""); err != nil || len(keys) != 2 {
		t.Errorf("keys %+v, %v", keys, err)
	}
	_, err = h.UpdateKey(ctx, scoped.ID, KeyChange{Scope: new([]auth.BucketRole)})
	h.fails(err, ErrInvalid)
	two := []auth.BucketRole{{Bucket: 7}, {Bucket: 8}}
	_, err = h.UpdateKey(ctx, k.ID, KeyChange{Scope: &two})
	h.ok(err)

	n, err := h.Sweep(ctx, func(b uint64) bool { return b == 7 })
	if err != nil || n != 1 {
		t.Errorf("swept %d, %v", n, err)
	}
	if _, err := h.FindKey(scoped.ID); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("error %v", err)
	}
	if c := h.caller(k.ID); len(c.Scope) != 1 || c.Scope[0].Bucket != 8 {
		t.Errorf("caller %+v", c)
	}
	h.ok(h.DeleteKey(ctx, k.ID))
	h.fails(h.DeleteKey(ctx, k.ID), ErrNoSuchKey)
	if keys, err := h.Keys("ann"); err != nil || len(keys) != 0 {
		t.Errorf("keys %+v, %v", keys, err)
	}
}

func TestSessions(t *testing.T) {
	h := start(t)
	h.user(NewUser{Name: "ann", Owner: true})
	k := h.key(NewKey{User: "ann"})
	s, token, err := h.NewSession(k.ID, "work", canned["readonly"].document, time.Hour)
	h.ok(err)
	got, err := h.Session(s.ID, token)
	h.ok(err)
	if got.Secret != s.Secret || got.Caller.Name != "ann" || got.Caller.Session != "work" || got.Caller.Bound == nil || !got.Caller.Owner {
		t.Errorf("key %+v", got)
	}
	bad := []byte(token)
	bad[len(bad)/2] ^= 1
	for _, c := range [][2]string{{"STSAother", token}, {s.ID, ""}, {s.ID, "x"}, {s.ID, string(bad)}, {s.ID, strings.Repeat("A", 2*maxTokenBytes)}} {
		if _, err := h.Session(c[0], c[1]); !errors.Is(err, auth.ErrToken) {
			t.Errorf("%.40q: %v", c, err)
		}
	}
	if _, ok := h.Key(s.ID); ok {
		t.Error("a temporary key may be used without its token")
	}
	h.now = h.now.Add(time.Hour)
	_, err = h.Session(s.ID, token)
	h.fails(err, auth.ErrExpiredToken)
	h.now = h.now.Add(-time.Hour)
	h.ok(h.DeleteKey(context.Background(), k.ID))
	_, err = h.Session(s.ID, token)
	h.fails(err, auth.ErrExpiredToken)

	s, token, err = h.NewSession(rootKey.ID, "root", "", time.Hour)
	h.ok(err)
	got, err = h.Session(s.ID, token)
	if err != nil || got.Caller.Root || got.Caller.ID != auth.RootID || len(got.Caller.Grants) != 1 {
		t.Errorf("key %+v, %v", got, err)
	}
	if _, _, err = h.NewSession(k.ID, "x", "{}", time.Hour); !errors.As(err, new(*policy.Error)) {
		t.Errorf("error %v", err)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(encode(&User{Name: "ann", Attached: []string{"readonly"}}))
	f.Add(encode(&keyRecord{Key: Key{ID: "k", Scope: []auth.BucketRole{{Bucket: 1}}}, Sealed: []byte("x")}))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, v := range []any{new(User), new(keyRecord), new(Policy)} {
			if err := decode(p, v); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v", err)
			}
		}
	})
}
