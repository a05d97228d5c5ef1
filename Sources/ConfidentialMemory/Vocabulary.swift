// The interface of this room is written in the project's terms: who imports it has them.
@_exported public import Terms
