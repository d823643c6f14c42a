package client_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"time"

	"stemma/client"
	"stemma/pageserver"
	"stemma/pageserver/auth"
	"stemma/pageserver/keyring"
	"stemma/wal/storefs"
)

// server starts a server in memory, and returns a client of it and what ends it.
func server() (*client.Client, func()) {
	master, err := keyring.New(keyring.NewKey("master"))
	if err != nil {
		log.Fatal(err)
	}
	s, err := pageserver.Start(pageserver.Options{
		Dir: "data", FS: storefs.NewMem(), Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", MasterKeys: master,
		RootKey: auth.Key{ID: "demo", Secret: "demo-secret"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Options{Endpoint: "http://" + s.AdminAddr().String(), AccessKey: "demo", SecretKey: "demo-secret"})
	if err != nil {
		log.Fatal(err)
	}
	return c, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func put(key, text string) client.CommitOperation {
	return client.CommitOperation{Op: "put", Key: key, Data: []byte(text)}
}

// Many agents get a private copy of one dataset each; what one of them has made is merged.
func ExampleClient_Fork() {
	c, stop := server()
	defer stop()
	ctx := context.Background()
	must(c.CreateBucket(ctx, client.NewBucket{Name: "data"}))
	must(c.Commit(ctx, "data", client.CommitRequest{Operations: []client.CommitOperation{put("a.txt", "one"), put("b.txt", "two")}}))

	forks := must(c.Fork(ctx, "data", client.ForkRequest{
		Count: 3, NamePrefix: "agent-", BucketOptions: client.BucketOptions{ExpiresIn: "24h"}, Key: &client.ForkKey{Role: "editor"},
	}))
	for _, f := range forks.Forks {
		fmt.Println(f.Name, f.Key.Scope[0].Bucket, f.Key.SecretKey != "")
	}
	must(c.Commit(ctx, "agent-2", client.CommitRequest{Operations: []client.CommitOperation{
		put("result.txt", "42"), {Op: "rename", Source: "b.txt", Key: "old/b.txt"},
	}}))
	for d, err := range c.DiffAll(ctx, client.DiffRequest{To: "agent-2"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(strings.TrimSpace(d.Kind + " " + d.Key + " " + d.OldKey))
	}
	m := must(c.Merge(ctx, "data", client.MergeRequest{Source: "agent-2"}))
	fmt.Println(m.Put, "put,", m.Deleted, "deleted")
	// Output:
	// agent-1 agent-1 true
	// agent-2 agent-2 true
	// agent-3 agent-3 true
	// renamed old/b.txt b.txt
	// added result.txt
	// 2 put, 1 deleted
}

// A snapshot names a moment, to which keys, prefixes or the whole bucket can be brought back.
func ExampleClient_Snapshot() {
	c, stop := server()
	defer stop()
	ctx := context.Background()
	must(c.CreateBucket(ctx, client.NewBucket{Name: "data"}))
	must(c.Commit(ctx, "data", client.CommitRequest{Operations: []client.CommitOperation{put("a", "first")}}))
	must(c.Snapshot(ctx, "data", client.NewSnapshot{Name: "good", Held: true}))
	must(c.Commit(ctx, "data", client.CommitRequest{Operations: []client.CommitOperation{{Op: "delete", Key: "a"}}}))
	h := must(c.History(ctx, "data", "a", "", 0))
	for _, e := range h.Entries {
		fmt.Println(e.Size, e.Deleted)
	}
	must(c.Revert(ctx, "data", client.MergeRequest{From: "good"}))
	h = must(c.History(ctx, "data", "a", "", 1))
	fmt.Println(h.Entries[0].Size, h.Entries[0].Deleted)
	err := c.DeleteSnapshot(ctx, "data", "good")
	fmt.Println(client.IsCode(err, "SnapshotHeld"))
	// Output:
	// 0 true
	// 5 false
	// 5 false
	// true
}

// A commit is refused as a whole when a condition does not hold.
func ExampleClient_Commit() {
	c, stop := server()
	defer stop()
	ctx := context.Background()
	must(c.CreateBucket(ctx, client.NewBucket{Name: "data"}))
	first := must(c.Commit(ctx, "data", client.CommitRequest{Operations: []client.CommitOperation{put("a", "1"), put("b", "2")}}))
	must(c.Commit(ctx, "data", client.CommitRequest{
		IfLSN:      first.LSN, // nobody has written meanwhile
		Operations: []client.CommitOperation{{Op: "rename", Source: "a", Key: "b"}, {Op: "rename", Source: "b", Key: "a"}},
	}))
	_, err := c.Commit(ctx, "data", client.CommitRequest{
		If: []client.CommitCondition{{Key: "a", LSN: first.LSN}}, Operations: []client.CommitOperation{put("c", "3")},
	})
	fmt.Println(err)
	// Output:
	// PreconditionFailed: commit to "data": condition 0, "a": object: precondition failed
}
