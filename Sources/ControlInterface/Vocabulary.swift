// The contract's values are the terms themselves: who imports the contract has them.
@_exported public import Terms
