-- $1 who is given up, $2 who stays, $3 the conversation that stays open, $4 the telefono that
-- the first had, $5 whether its row may go
select router.merge_contacts($1, $2, $3, $4, $5)
