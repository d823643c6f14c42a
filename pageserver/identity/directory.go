package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"stemma/layers"
	"stemma/pageserver/auth"
	"stemma/pageserver/keyring"
	"stemma/timeline"
)

// Bucket is where the records lie. No bucket of S3 can be named so.
const Bucket = ".stemma"

// Options of a Directory.
type Options struct {
	Store *timeline.Store // required, and outlives the directory
	Ring  *keyring.Ring   // required
	// Root is the root key, which comes with the process and not from the store.
	Root auth.Key
	// Now is the wall clock. Default time.Now.
	Now func() time.Time
}

// Directory knows all users, keys and policies. It implements auth.Keys. Safe for
// concurrent use.
type Directory struct {
	o Options

	// changing is held by the one change at a time, over its commit.
	changing sync.Mutex

	mu struct { // taken within changing
		sync.RWMutex
		users    map[string]*user    // by name
		uniques  map[string]*user    // by Unique
		accounts map[string]*user    // top-level users by canonical id
		emails   map[string]*user    // by email in lower case
		keys     map[string]*userKey // by id
		rootKeys map[string]*userKey // those of no user, by id
		policies map[string]*managed // by name, canned ones included
		writers  []Writer            // by number, from firstWriter on
		writerOf map[string]uint32   // by Unique
	}
}

// user is a user in memory. It is replaced when it changes, but for its keys.
type user struct {
	User
	caller *auth.Caller
	keys   map[string]*userKey // by id; shared by all versions of the user
}

// userKey is a key in memory. It is replaced when it changes.
type userKey struct {
	Key
	auth auth.Key // with the caller of the user as it is now
}

// Open reads all records. Errors: ErrCorrupt, keyring.ErrNoKey when a secret was
// sealed by a master key that is not there, and those of the store.
func Open(ctx context.Context, o Options) (*Directory, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Directory{o: o}
	m := &d.mu
	m.users, m.accounts, m.emails = make(map[string]*user), make(map[string]*user), make(map[string]*user)
	m.writerOf, m.uniques = make(map[string]uint32), make(map[string]*user)
	m.keys, m.rootKeys, m.policies = make(map[string]*userKey), make(map[string]*userKey), make(map[string]*managed)
	for name, c := range canned {
		p, err := newManaged(Policy{Name: name, Document: c.document, Canned: true})
		if err != nil {
			panic("BUG: " + err.Error()) // a constant
		}
		m.policies[name] = p
	}
	v, err := o.Store.View(ctx, Bucket, 0)
	if errors.Is(err, timeline.ErrNoSuchBucket) {
		return d, nil
	} else if err != nil {
		return nil, fmt.Errorf("open the directory of users: %w", err)
	}
	defer v.Close()
	// Policies before users, users before keys.
	for _, prefix := range []string{"policy/", "user/", "key/", "writer/"} {
		if err := d.load(v, prefix); err != nil {
			return nil, fmt.Errorf("open the directory of users: %w", err)
		}
	}
	for _, u := range d.mu.users { // a member may have come before its account
		if u.Member {
			d.mustSet(u)
		}
	}
	return d, nil
}

// load reads the records of one kind. Nobody else has d yet.
func (d *Directory) load(v *timeline.View, prefix string) (err error) {
	upper := []byte(prefix)
	upper[len(upper)-1]++
	scan := v.Scan(layers.NamespaceConfig, []byte(prefix), upper)
	defer func() { err = errors.Join(err, scan.Close()) }()
	for ok := scan.First(); ok; ok = scan.Next() {
		rec := scan.Record()
		key := string(rec.Key.User())
		if err := d.loadRecord(prefix, rec.Meta); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return scan.Err()
}

func (d *Directory) loadRecord(prefix string, meta []byte) error {
	switch prefix {
	case "policy/":
		var p Policy
		if err := decode(meta, &p); err != nil {
			return err
		}
		m, err := newManaged(p)
		if err != nil {
			return err
		}
		d.mu.policies[p.Name] = m
	case "writer/":
		var w Writer
		if err := decode(meta, &w); err != nil {
			return err
		}
		return d.setWriter(w)
	case "user/":
		var u User
		if err := decode(meta, &u); err != nil {
			return err
		}
		return d.setUser(&user{User: u, keys: make(map[string]*userKey)})
	default:
		var r keyRecord
		if err := decode(meta, &r); err != nil {
			return err
		}
		secret, err := d.o.Ring.Open(secretContext(r.ID), r.Sealed)
		if err != nil {
			return err
		}
		if r.User != "" && d.mu.users[r.User] == nil {
			return fmt.Errorf("key of user %q, whom there is not: %w", r.User, ErrCorrupt)
		}
		d.setKey(&userKey{Key: r.Key, auth: auth.Key{ID: r.ID, Secret: string(secret)}})
	}
	return nil
}

func secretContext(id string) string { return "secret-key/" + id }

// change runs fn, which checks a change and says what to write, commits that, and
// then has apply make it visible. fn and apply run with d.mu held, for reading and
// for writing.
func (d *Directory) change(ctx context.Context, fn func(b *timeline.Batch) (apply func(), err error)) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	var b timeline.Batch
	d.mu.RLock()
	apply, err := fn(&b)
	d.mu.RUnlock()
	if err != nil {
		return err
	}
	if b.Len() > 0 {
		if err := d.commit(ctx, &b); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	apply()
	return nil
}

// commit writes b, and makes the bucket with it when it is not there yet.
func (d *Directory) commit(ctx context.Context, b *timeline.Batch) error {
	_, err := d.o.Store.Commit(ctx, Bucket, b)
	if errors.Is(err, timeline.ErrNoSuchBucket) {
		if _, err = d.o.Store.CreateBucket(ctx, timeline.NewBucket{Name: Bucket, First: b}); err == nil {
			_, err = d.o.Store.SetWindow(ctx, Bucket, 0) // nobody reads what secrets were
		}
	}
	if err != nil {
		return fmt.Errorf("write the directory of users: %w", err)
	}
	return nil
}

func putRecord(b *timeline.Batch, key string, v any) {
	b.Put(layers.NamespaceConfig, []byte(key), encode(v), nil)
}

func deleteRecord(b *timeline.Batch, key string) { b.Delete(layers.NamespaceConfig, []byte(key)) }

// setUser makes u what its name and id lead to, with a caller made anew for all of
// its keys. The caller holds d.mu for writing.
func (d *Directory) setUser(u *user) error {
	caller, err := d.callerOf(&u.User)
	if err != nil {
		return err
	}
	u.caller = caller
	if old := d.mu.users[u.Name]; old != nil {
		d.dropUser(old)
	}
	d.mu.users[u.Name], d.mu.uniques[u.Unique] = u, u
	if !u.Member {
		d.mu.accounts[u.ID] = u
	}
	if u.Email != "" {
		d.mu.emails[strings.ToLower(u.Email)] = u
	}
	for _, k := range u.keys {
		d.setKey(&userKey{Key: k.Key, auth: auth.Key{ID: k.ID, Secret: k.auth.Secret}})
	}
	return nil
}

// dropUser forgets u; its keys stay. The caller holds d.mu for writing.
func (d *Directory) dropUser(u *user) {
	delete(d.mu.users, u.Name)
	delete(d.mu.uniques, u.Unique)
	if !u.Member {
		delete(d.mu.accounts, u.ID)
	}
	if u.Email != "" {
		delete(d.mu.emails, strings.ToLower(u.Email))
	}
}

// setKey makes k what its id leads to, and fills in its caller. The caller holds d.mu
// for writing.
func (d *Directory) setKey(k *userKey) {
	if k.User == "" {
		k.auth.Caller, k.auth.Root = rootKeyCaller(k.Scope)
		d.mu.rootKeys[k.ID] = k
	} else {
		u := d.mu.users[k.User]
		k.auth.Caller = scoped(u.caller, k.Scope)
		u.keys[k.ID] = k
	}
	d.mu.keys[k.ID] = k
}

// dropKey forgets a key. The caller holds d.mu for writing.
func (d *Directory) dropKey(k *userKey) {
	delete(d.mu.keys, k.ID)
	delete(d.mu.rootKeys, k.ID)
	if u := d.mu.users[k.User]; u != nil {
		delete(u.keys, k.ID)
	}
}

// Key implements auth.Keys. It allocates nothing.
func (d *Directory) Key(id string) (auth.Key, bool) {
	if id == d.o.Root.ID {
		return d.o.Root, true
	}
	d.mu.RLock()
	k := d.mu.keys[id]
	d.mu.RUnlock()
	if k == nil || !k.usable(d.o.Now) {
		return auth.Key{}, false
	}
	return k.auth, true
}

// usable reports whether the key may be used now.
func (k *userKey) usable(now func() time.Time) bool {
	return !k.Inactive && (k.Expires.IsZero() || now().Before(k.Expires))
}

// DisplayName returns the name of an account by its canonical id, and whether there is
// such an account.
func (d *Directory) DisplayName(id string) (string, bool) {
	if id == auth.RootID {
		return auth.RootName, true
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.mu.accounts[id]
	if u == nil {
		return "", false
	}
	return u.DisplayName, true
}

// AccountByEmail returns the canonical id of the account with an email address.
func (d *Directory) AccountByEmail(email string) (id string, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.mu.emails[strings.ToLower(email)]
	if u == nil {
		return "", false
	}
	return u.ID, true
}
