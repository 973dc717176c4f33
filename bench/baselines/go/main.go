// net/http + pgxpool: one prepared statement, and so one commit, a message.
//
// PORT, DATABASE_URL, WHATSAPP_APP_SECRET as the router's; STATEMENT is a file, message.sql.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"

	"github.com/jackc/pgx/v4/pgxpool"
)

type contact struct {
	WaID    string `json:"wa_id"`
	UserID  string `json:"user_id"`
	Profile struct {
		Name *string `json:"name"`
	} `json:"profile"`
}

type value struct {
	Contacts []contact         `json:"contacts"`
	Messages []json.RawMessage `json:"messages"`
}

type envelope struct {
	Entry []struct {
		Changes []struct {
			Value value `json:"value"`
		} `json:"changes"`
	} `json:"entry"`
}

type title struct {
	Title string `json:"title"`
}

// What holds words in a message: a text, a file with a caption, something that was tapped.
type words struct {
	Body        string `json:"body"`
	Caption     string `json:"caption"`
	ListReply   title  `json:"list_reply"`
	ButtonReply title  `json:"button_reply"`
}

type item struct {
	From        string `json:"from"`
	FromUserID  string `json:"from_user_id"`
	ID          string `json:"id"`
	Timestamp   string `json:"timestamp"`
	Type        string `json:"type"`
	Text        words  `json:"text"`
	Image       words  `json:"image"`
	Video       words  `json:"video"`
	Document    words  `json:"document"`
	Interactive words  `json:"interactive"`
}

type receiver struct {
	pool      *pgxpool.Pool
	secret    []byte
	statement string
}

func (i *item) text() string {
	for _, w := range []*words{&i.Text, &i.Image, &i.Video, &i.Document, &i.Interactive} {
		for _, text := range []string{w.Body, w.Caption, w.ListReply.Title, w.ButtonReply.Title} {
			if text != "" {
				return text
			}
		}
	}
	return "[" + i.Type + "]"
}

func (i *item) tipo() string {
	switch i.Type {
	case "image", "audio", "video", "document", "sticker", "location":
		return i.Type
	}
	return "text"
}

func (r *receiver) signed(body []byte, header string) bool {
	mac := hmac.New(sha256.New, r.secret)
	mac.Write(body)
	right := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	return hmac.Equal([]byte(right), []byte(header))
}

func (r *receiver) store(ctx context.Context, v *value) (int, error) {
	names := map[string]*string{}
	for _, c := range v.Contacts {
		names[c.WaID], names[c.UserID] = c.Profile.Name, c.Profile.Name
	}
	for _, raw := range v.Messages {
		var i item
		if err := json.Unmarshal(raw, &i); err != nil {
			return 0, err
		}
		telefono := i.From
		if telefono == "" {
			telefono = i.FromUserID
		}
		seconds, err := strconv.ParseFloat(i.Timestamp, 64)
		if err != nil {
			return 0, err
		}
		_, err = r.pool.Exec(ctx, r.statement,
			telefono, names[telefono], i.ID, i.text(), i.tipo(), seconds, string(raw))
		if err != nil {
			return 0, err
		}
	}
	return len(v.Messages), nil
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	if !r.signed(body, request.Header.Get("X-Hub-Signature-256")) {
		http.Error(w, "not signed", http.StatusUnauthorized)
		return
	}
	var e envelope
	processed := 0
	err = json.Unmarshal(body, &e)
	for i := 0; i < len(e.Entry) && err == nil; i++ {
		for j := 0; j < len(e.Entry[i].Changes) && err == nil; j++ {
			var stored int
			stored, err = r.store(request.Context(), &e.Entry[i].Changes[j].Value)
			processed += stored
		}
	}
	if err != nil {
		log.Print(err)
		http.Error(w, "failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"success":true,"processed":%d,"failed":0}`, processed)
}

func main() {
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	config.MaxConns = 10
	pool, err := pgxpool.ConnectConfig(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	statement, err := os.ReadFile(os.Getenv("STATEMENT"))
	if err != nil {
		log.Fatal(err)
	}
	r := &receiver{pool, []byte(os.Getenv("WHATSAPP_APP_SECRET")), string(statement)}
	http.Handle("/webhook", r)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
