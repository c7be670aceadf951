# git: a clone with a submodule, checked, changed, packed anew, and checked again from the server.
export GIT_CONFIG_COUNT=4 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' GIT_CONFIG_KEY_1=gc.auto GIT_CONFIG_VALUE_1=0 \
  GIT_CONFIG_KEY_2=protocol.file.allow GIT_CONFIG_VALUE_2=always GIT_CONFIG_KEY_3=core.fsync GIT_CONFIG_VALUE_3=all \
  GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.invalid GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.invalid
git clone -q --recurse-submodules "file://$SHARED/super.git" clone
echo "submodules $(git -C clone submodule status | grep -c '^ ')" >&3
remount
git -C clone fsck --strict
git -C clone/project fsck --strict
git -C clone/project diff --quiet HEAD
echo change >clone/change
git -C clone add change
git -C clone commit -q -m change
git -C clone/project repack -q -a -d
remount
git -C clone/project fsck --full --strict
echo "status $(git -C clone status --porcelain | wc -l), log $(git -C clone log --oneline | wc -l)" >&3
