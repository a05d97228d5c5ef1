// Class 14: migration of TDs.
// Values and names: include/auto_gen/tdx_error_codes_defs.h of intel/tdx-module, release 1.5.01.

extension StatusRow {
    static let migration: [StatusRow] = [
        StatusRow(
            0xC000_0E00, "INVALID_MBMD",
            cause: "The metadata of the migration bundle is malformed.",
            nextStep: "Transfer the bundle again; check the source."),
        StatusRow(
            0xC000_0E01, "INCORRECT_MBMD_MAC",
            cause: "The authentication code of the bundle's metadata is wrong.",
            nextStep: "Transfer the bundle again; check the migration keys."),
        StatusRow(
            0xC000_0E02, "NOT_WRITE_BLOCKED",
            cause: "The page is not blocked for writing.",
            nextStep: "Call EXPORT.BLOCKW for the page first."),
        StatusRow(
            0x0000_0E03, "ALREADY_WRITE_BLOCKED",
            cause: "The page is blocked for writing already.",
            nextStep: "Go on."),
        StatusRow(
            0xC000_0E04, "NOT_EXPORTED",
            cause: "The page was not exported.",
            nextStep: "Export the page first."),
        StatusRow(
            0xC000_0E05, "MIGRATION_STREAM_STATE_INCORRECT",
            cause: "The migration stream is in a state that the call does not allow.",
            nextStep: "Use another stream, or end the present operation."),
        StatusRow(
            0xC000_0E06, "MAX_MIGS_NUM_EXCEEDED",
            cause: "The TD has the highest number of migration streams.",
            nextStep: "Use the streams that exist."),
        StatusRow(
            0xC000_0E07, "EXPORTED_DIRTY_PAGES_REMAIN",
            cause: "Pages that were exported have changed since.",
            nextStep: "Export the changed pages again."),
        StatusRow(
            0xC000_0E08, "MIGRATION_DECRYPTION_KEY_NOT_SET",
            cause: "The migration TD has not set the decryption key.",
            nextStep: "Let the migration TDs agree on keys first."),
        StatusRow(
            0xC000_0E09, "TD_NOT_MIGRATABLE",
            cause: "The TD was created without the MIGRATABLE attribute.",
            nextStep: "Create the TD with ATTRIBUTES bit 29."),
        StatusRow(
            0xC000_0E0A, "PREVIOUS_EXPORT_CLEANUP_INCOMPLETE",
            cause: "Pages still carry the state of an earlier export.",
            nextStep: "Restore them with EXPORT.RESTORE."),
        StatusRow(
            0xC000_0E0B, "NUM_MIGS_HIGHER_THAN_CREATED",
            cause: "The session asks for more migration streams than were created.",
            nextStep: "Create the missing streams."),
        StatusRow(
            0xC000_0E0C, "IMPORT_MISMATCH",
            cause: "The imported state does not fit this TD.",
            nextStep: "Check that source and destination were created alike."),
        StatusRow(
            0xC000_0E0D, "MIGRATION_EPOCH_OVERFLOW",
            cause: "The migration epoch cannot be counted further.",
            nextStep: "Abort the export and start again."),
        StatusRow(
            0xC000_0E0E, "MAX_EXPORTS_EXCEEDED",
            cause: "The TD was exported the highest number of times.",
            nextStep: "Do not migrate the TD again."),
        StatusRow(
            0xC000_0E0F, "INVALID_PAGE_MAC",
            cause: "The authentication code of an imported page is wrong.",
            nextStep: "Transfer the page again."),
        StatusRow(
            0xC000_0E10, "MIGRATED_IN_CURRENT_EPOCH",
            cause: "The page was migrated in this epoch already.",
            nextStep: "Start a new epoch before the page is sent again."),
        StatusRow(
            0xC000_0E11, "DISALLOWED_IMPORT_OVER_REMOVED",
            cause: "A page was imported where one was removed during the import.",
            nextStep: "Abort the import."),
        StatusRow(
            0xC000_0E12, "SOME_VCPUS_NOT_MIGRATED",
            cause: "Not every vCPU was migrated.",
            nextStep: "Migrate the remaining vCPUs."),
        StatusRow(
            0xC000_0E13, "ALL_VCPUS_IMPORTED",
            cause: "All vCPUs are imported already.",
            nextStep: "Go on with the next phase of the import."),
        StatusRow(
            0xC000_0E14, "MIN_MIGS_NOT_CREATED",
            cause: "Too few migration streams were created.",
            nextStep: "Create the missing streams."),
        StatusRow(
            0xC000_0E15, "VCPU_ALREADY_EXPORTED",
            cause: "The vCPU was exported already.",
            nextStep: "Go on with the next vCPU."),
        StatusRow(
            0xC000_0E16, "INVALID_MIGRATION_DECRYPTION_KEY",
            cause: "The migration decryption key is not valid.",
            nextStep: "Let the migration TDs agree on keys again."),
    ]
}
