package s3api

import (
	"crypto/md5"
	"encoding/base64"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"stemma/pageserver/auth"
	"stemma/pageserver/iam"
	"stemma/pageserver/identity"
	"stemma/pageserver/keyring"
)

// tenant is a user of a test with a key.
type tenant struct {
	identity.User
	key auth.Key
	sdk *s3.Client
}

// tenants is a server with three users, each the owner of an account.
type tenants struct {
	*testServer
	users             *identity.Directory
	main, alt, tenant tenant
	nobody            *s3.Client // signs nothing
}

func newTenants(t *testing.T) *tenants { return newTenantsOn(t, newServer) }

// newTenantsOn is newTenants on a server that start starts.
func newTenantsOn(t *testing.T, start func(testing.TB, ...func(*Options)) *testServer) *tenants {
	t.Helper()
	ring, err := keyring.New(keyring.NewKey("users"))
	if err != nil {
		t.Fatal(err)
	}
	n := &tenants{}
	n.testServer = start(t, func(o *Options) {
		n.users, err = identity.Open(ctx, identity.Options{Store: o.Objects.Store(), Ring: ring, Root: rootKey})
		if err != nil {
			t.Fatal(err)
		}
		o.Accounts, o.Verifier, o.IAM = n.users, auth.NewVerifier(n.users, time.Now), iam.New(n.users, time.Now)
	})
	n.main, n.alt, n.tenant = n.owner("main"), n.owner("alt"), n.owner("tenant")
	n.nobody = n.newSDK(func(o *s3.Options) { o.Credentials = nil })
	return n
}

// owner makes a user who owns an account.
func (n *tenants) owner(name string) tenant {
	n.t.Helper()
	return n.user(identity.NewUser{Name: name, Owner: true, DisplayName: "The " + name, Email: name + "@example.com"})
}

func (n *tenants) user(u identity.NewUser) tenant {
	n.t.Helper()
	made, key, secret, err := n.users.CreateUserWithKey(ctx, u, identity.NewKey{})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.with(made, key.ID, secret)
}

// with returns a tenant that uses a key.
func (n *tenants) with(u identity.User, id, secret string) tenant {
	return tenant{u, auth.Key{ID: id, Secret: secret}, n.newSDK(func(o *s3.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider(id, secret, "")
	})}
}

// as makes a call that a tenant signs.
func (t tenant) as(c call) call {
	c.as = t.key
	return c
}

// anon makes a call that nobody signs.
func anon(c call) call {
	c.unsigned = true
	return c
}

func md5Of(body string) string {
	sum := md5.Sum([]byte(body))
	return base64.StdEncoding.EncodeToString(sum[:])
}
