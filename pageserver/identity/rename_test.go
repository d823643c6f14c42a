package identity

import (
	"testing"

	"stemma/pageserver/auth"
)

// A user under another name is the same, also after a restart: ids, keys, secrets, policies, members.
func TestRenameUser(t *testing.T) {
	h, ctx := start(t), t.Context()
	ann := h.user(NewUser{Name: "ann", ID: "a", Owner: true, Email: "ann@example.com", Attach: []string{"readonly"}, Path: "/team/"})
	h.user(NewUser{Name: "bob", ID: "b"})
	h.user(NewUser{Name: "member", Account: "a"})
	h.ok(h.PutInline(ctx, "ann", Inline{Name: "in", Document: canned["readonly"].document}))
	k := h.key(NewKey{User: "ann"})
	h.fails(h.RenameUser(ctx, "none", "x"), ErrNoSuchUser)
	h.fails(h.RenameUser(ctx, "ann", "bob"), ErrExists)
	h.fails(h.RenameUser(ctx, "ann", "b"), ErrExists) // which would hide who has that id
	h.fails(h.RenameUser(ctx, "ann", auth.RootID), ErrExists)
	h.fails(h.RenameUser(ctx, "ann", "a b"), ErrInvalid)
	h.ok(h.RenameUser(ctx, "ann", "ann"))
	h.ok(h.RenameUser(ctx, "a", "anna")) // by id
	for range 2 {
		got, err := h.User("anna")
		if err != nil || got.ID != ann.ID || got.Unique != ann.Unique || got.Email != ann.Email || len(got.Inline) != 1 || len(got.Attached) != 1 || got.Path != "/team/" || !got.Owner {
			t.Fatalf("%+v, %v", got, err)
		}
		_, err = h.User("ann")
		h.fails(err, ErrNoSuchUser)
		if key, ok := h.Key(k.ID); !ok || key.Secret != k.Secret || key.Caller.Name != "anna" || key.Caller.ARN != got.ARN() || key.Caller.ID != ann.ID {
			t.Fatalf("%+v, %v", key, ok)
		}
		if keys, err := h.Keys("anna"); err != nil || len(keys) != 1 || keys[0].User != "anna" {
			t.Errorf("%+v, %v", keys, err)
		}
		if id, ok := h.AccountByEmail("ann@example.com"); !ok || id != ann.ID {
			t.Error(id, ok)
		}
		if m, err := h.User("member"); err != nil || m.ID != ann.ID {
			t.Errorf("%+v, %v", m, err)
		}
		h.reopen()
	}
	h.user(NewUser{Name: "ann"}) // the old name is free
	_, err := h.CreateUser(ctx, NewUser{Name: "a"})
	h.fails(err, ErrExists)
	_, err = h.CreateUser(ctx, NewUser{Name: "c", ID: "bob"})
	h.fails(err, ErrExists)
}
