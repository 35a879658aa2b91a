/* A milter that uses every action of libmilter.  The local part of the sender is STEP.VERDICT, and says what it does. */

#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

struct message { char step[32], verdict[32], macros[512]; };

static const char *value(SMFICTX *ctx, char *name)
{
    char *found = smfi_getsymval(ctx, name);
    return found == NULL ? "-" : found;
}

static sfsistat decide(SMFICTX *ctx, const char *step)
{
    struct message *m = smfi_getpriv(ctx);
    if (m == NULL || strcmp(m->step, step) != 0)
        return SMFIS_CONTINUE;
    if (strcmp(m->verdict, "accept") == 0) return SMFIS_ACCEPT;
    if (strcmp(m->verdict, "reject") == 0) return SMFIS_REJECT;
    if (strcmp(m->verdict, "tempfail") == 0) return SMFIS_TEMPFAIL;
    if (strcmp(m->verdict, "discard") == 0) return SMFIS_DISCARD;
    if (strcmp(m->verdict, "skip") == 0) return SMFIS_SKIP;
    if (strcmp(m->verdict, "reply") == 0) {
        smfi_setreply(ctx, "571", "5.7.9", "100%% refused");
        return SMFIS_REJECT;
    }
    if (strcmp(m->verdict, "lines") == 0) {
        smfi_setmlreply(ctx, "450", "4.7.9", "first", "second", NULL);
        return SMFIS_TEMPFAIL;
    }
    if (strcmp(m->verdict, "shutdown") == 0) {
        smfi_setreply(ctx, "421", "4.3.9", "going down");
        return SMFIS_TEMPFAIL;
    }
    return SMFIS_CONTINUE;
}

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps, unsigned long f2,
                             unsigned long f3, unsigned long *pactions, unsigned long *psteps, unsigned long *pf2,
                             unsigned long *pf3)
{
    (void)f2; (void)f3;
    if ((actions & SMFI_CURR_ACTS) != SMFI_CURR_ACTS)
        return SMFIS_REJECT;
    smfi_setsymlist(ctx, SMFIM_ENVFROM, "j {mail_addr} {verify} {cert_subject} {auth_authen} {client_addr}");
    *pactions = actions;
    *psteps = (SMFIP_SKIP | SMFIP_RCPT_REJ | SMFIP_NR_HDR) & steps;
    *pf2 = *pf3 = 0;
    return SMFIS_CONTINUE;
}

static sfsistat on_mail(SMFICTX *ctx, char **arguments)
{
    struct message *m = calloc(1, sizeof *m);
    char *dot = strchr(arguments[0], '.'), *at = strchr(arguments[0], '@');
    free(smfi_getpriv(ctx));
    if (m == NULL)
        return SMFIS_TEMPFAIL;
    if (dot != NULL && at != NULL && dot < at) {
        snprintf(m->step, sizeof m->step, "%.*s", (int)(dot - arguments[0] - 1), arguments[0] + 1);
        snprintf(m->verdict, sizeof m->verdict, "%.*s", (int)(at - dot - 1), dot + 1);
    }
    snprintf(m->macros, sizeof m->macros, "%s %s %s %s %s %s", value(ctx, "j"), value(ctx, "{mail_addr}"),
             value(ctx, "{verify}"), value(ctx, "{cert_subject}"), value(ctx, "{auth_authen}"),
             value(ctx, "{client_addr}"));
    smfi_setpriv(ctx, m);
    return decide(ctx, "mail");
}

static sfsistat on_rcpt(SMFICTX *ctx, char **arguments)
{
    (void)arguments;
    return decide(ctx, "rcpt");
}

static sfsistat on_data(SMFICTX *ctx) { return decide(ctx, "data"); }

static sfsistat on_unknown(SMFICTX *ctx, const char *command)
{
    if (strncmp(command, "XNOTHING", 8) == 0) {
        smfi_setreply(ctx, "502", "5.5.9", "not even this");
        return SMFIS_REJECT;
    }
    return SMFIS_CONTINUE;
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *text)
{
    (void)ctx; (void)name; (void)text;
    return SMFIS_NOREPLY;
}

static sfsistat on_eoh(SMFICTX *ctx) { return decide(ctx, "eoh"); }

static sfsistat on_body(SMFICTX *ctx, unsigned char *chunk, size_t size)
{
    (void)chunk; (void)size;
    return decide(ctx, "body");
}

static sfsistat on_eom(SMFICTX *ctx)
{
    struct message *m = smfi_getpriv(ctx);
    int failed = 0;
    if (m != NULL && strcmp(m->step, "eom") == 0) {
        failed |= smfi_progress(ctx) != MI_SUCCESS;
        failed |= smfi_insheader(ctx, 0, "X-First", m->macros) != MI_SUCCESS;
        failed |= smfi_addheader(ctx, "X-Last", "one\n\ttwo") != MI_SUCCESS;
        failed |= smfi_chgheader(ctx, "Subject", 1, "changed") != MI_SUCCESS;
        failed |= smfi_chgheader(ctx, "X-Remove", 2, NULL) != MI_SUCCESS;
        failed |= smfi_chgheader(ctx, "X-New", 1, "new") != MI_SUCCESS;
        failed |= smfi_chgfrom(ctx, "<changed@example.org>", "RET=HDRS") != MI_SUCCESS;
        failed |= smfi_addrcpt(ctx, "<added@example.com>") != MI_SUCCESS;
        failed |= smfi_addrcpt_par(ctx, "<silent@example.com>", "NOTIFY=NEVER") != MI_SUCCESS;
        failed |= smfi_delrcpt(ctx, "<you@example.com>") != MI_SUCCESS;
        failed |= smfi_replacebody(ctx, (unsigned char *)"new ", 4) != MI_SUCCESS;
        failed |= smfi_replacebody(ctx, (unsigned char *)"body\r\n", 6) != MI_SUCCESS;
        if (strcmp(m->verdict, "quarantine") == 0)
            failed |= smfi_quarantine(ctx, "looks odd") != MI_SUCCESS;
    }
    return failed ? SMFIS_TEMPFAIL : decide(ctx, "eom");
}

static sfsistat on_close(SMFICTX *ctx)
{
    free(smfi_getpriv(ctx));
    smfi_setpriv(ctx, NULL);
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc milter = {
        "every-action", SMFI_VERSION, SMFI_CURR_ACTS, NULL, NULL, on_mail, on_rcpt, on_header, on_eoh, on_body,
        on_eom, NULL, on_close, on_unknown, on_data, on_negotiate,
    };
    if (argc != 2 || smfi_setconn(argv[1]) == MI_FAILURE || smfi_register(milter) == MI_FAILURE)
        return EX_USAGE;
    return smfi_main();
}
