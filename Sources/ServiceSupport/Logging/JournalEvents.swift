/// The kinds of events that the journal can be searched for: what is logged, and its MESSAGE_ID, by which
/// `journalctl --catalog` finds more about it. A message that is not here has none. The catalog,
/// `systemd/tdxd.catalog`, has the same ids; a test holds one against the other.
package enum JournalEvents {
    /// By the message's text, which is a constant: what differs is in fields.
    package static let ids: [String: String] = [
        "tdxd serves": "fb2c98e76b5a400c87765b57495ded37",
        "tdxd has stopped": "05a80739a0c54d0584f315fccdabfa13",
        "the launcher of holders has ended; tdxd ends, and TDs go on": "776dbbc045374216965a59576fbe1b7a",
        "read the configuration again": "fa2b8d42499b4c068a39d2e14e684c45",
        "the configuration is not changed": "ebf7aa3c238948a49977268ddbccd088",
        "a TD is runnable": "ff8b2328c3cf4cb0b96209c6b818f4d0",
        "a TD could not be created": "6c094bfe53674585be99867388a8a5c1",
        "a TD could not be built": "fd3d55760d574391b07348de8e32b277",
        "adopted a TD": "bd9665034ae04068b9118bb255db260b",
        "stopping a TD": "712bd86c3baa4de5a3c5e352a31d1312",
        "a TD runs no more": "d978cac3621246b8a7139bbfb525ab48",
        "a TD has ended, all proven": "fa7103c2ee1c4903b59127acb8aa4dca",
        "a TD has ended and not all is proven": "1eb64dacecb74720a3907bbe50c0d977",
        "a holder has died; its TD is failed and is being reaped": "453a90e018e24757bfd332248e48fcc5",
        "a holder did not stop its TD": "c4855b2cb0a84573834ed5a87d943374",
        "a certificate could not be written": "de5ac49403544be5b592b682e57ac4e2",
        "memory is double-resident": "78ec495fafe34a63a1690ebe93c88d44",
        "a TD is quarantined": "8fa1173e88c246bda0c47e21ab9b201a",
        "a page could not be taken from a TD": "b8a5d1774eb344b087e6e1e9bf87f78e",
        "a conversion has failed": "2caab976bbf94c379be1f1b5eb7f024f",
        "a conversion before the failure": "cba6f9b83fb64cb9a1cbf8b91358aa47",
        "conversions have become a storm": "2c3c29d1d38d4333a3ff160453106481",
        "emptying the host": "6192ca0cf0714e479405582555f68ccc",
        "the host is empty": "f096c0f3880c42738af0590cc6ebf0de",
        "the host is not empty": "7dc4a940877c45efb3afcb0b0886fc6f",
        "new TDs may come again": "b0c8ec1f769b447ea531c036c27029dd",
        "refused a call": "e534ff70e1a14db39c710a4240c2755c",
    ]
}
