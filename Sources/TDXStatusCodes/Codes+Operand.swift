// Class 1: operands.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// OPERAND_INVALID: The named operand has reserved bits set, is misaligned, or is out of its range.
    @inlinable public static var operandInvalid: TDXStatus { TDXStatus(0xC000_0100_0000_0000) }
    /// OPERAND_ADDR_RANGE_ERROR: The physical address lies in no initialised 1 GiB block of a TDMR.
    @inlinable public static var operandAddrRangeError: TDXStatus { TDXStatus(0xC000_0101_0000_0000) }
}

extension StatusRow {
    static let operand: [StatusRow] = [
        StatusRow(
            0xC000_0100, "OPERAND_INVALID",
            cause: "The named operand has reserved bits set, is misaligned, or is out of its range.",
            nextStep: "Correct the operand that the low 32 bits name; a repetition fails alike."),
        StatusRow(
            0xC000_0101, "OPERAND_ADDR_RANGE_ERROR",
            cause: "The physical address lies in no initialised 1 GiB block of a TDMR.",
            nextStep: "Use memory that SYS.CONFIG listed, and finish SYS.TDMR.INIT for its block."),
    ]
}
