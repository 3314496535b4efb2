#!/bin/sh
# Makes of users.acl what Redis loads: one line an account, without comments, with the SHA-256 of
# each password in place of the password.
#
#   sh accounts.sh users.acl [MORE.acl …] > /etc/redis/transship.acl
#
# The password of account NAME is in the variable REDIS_NAME_PASSWORD (the name in capitals, with `_`
# for `-`). An account whose rules have a hash (#…) already needs none. One that is off is left out;
# `default` stays.
# TRANSSHIP_NAMESPACE: the namespace in place of `transship`.
set -eu

refuse() {
  echo "$1" >&2
  exit 1
}

namespace=${TRANSSHIP_NAMESPACE:-transship}
case $namespace in
  *[!A-Za-z0-9_.-]*) refuse "TRANSSHIP_NAMESPACE: letters, digits, _ . and - only" ;;
esac

# Comments and empty lines go; a line that does not begin an account goes on with the last one.
accounts=$(cat "$@" \
  | sed -e '/^[[:space:]]*\(#.*\)\{0,1\}$/d' -e "s/\([~&]\)transship:/\1$namespace:/g" \
  | awk '/^user / { if (NR > 1) print ""; printf "%s", $0; next }
         { sub(/^[[:space:]]+/, ""); printf " %s", $0 }
         END { print "" }')

made=$(printf '%s\n' "$accounts" | {
  names=' ' variables=' '
  while read -r _ name state rules; do
    case $name in
      default) ;;
      -* | *[!A-Za-z0-9_-]*) refuse "account $name: letters, digits, _ and - only, no - first" ;;
    esac
    [ "$name" = default ] || [ "$state" != off ] || continue
    case $names in
      *" $name "*) refuse "account $name is there twice" ;;
    esac
    names="$names$name "
    case "$state $rules" in
      off\ * | *\ \#*)
        printf '%s\n' "user $name $state $rules"
        continue
        ;;
    esac
    variable=REDIS_$(printf %s "$name" | tr 'a-z-' 'A-Z_')_PASSWORD
    case $variables in
      *" $variable "*) refuse "account $name: $variable is another account's password, too" ;;
    esac
    variables="$variables$variable "
    eval "password=\${$variable:-}"
    case $password in
      "") refuse "$variable is not set: it is the password of the Redis account $name" ;;
      *[!A-Za-z0-9_.-]*) refuse "$variable may hold letters, digits, _ . and - only" ;;
    esac
    hash=$(printf %s "$password" | sha256sum)
    printf '%s\n' "user $name $state $rules #${hash%% *}"
  done
})
# All of it or nothing.
printf '%s\n' "$made"
